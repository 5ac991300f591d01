opsplit_test(operators
  SOURCES kernels/arrangement_reference_test.cpp kernels/convolution_test.cpp cores_follower_test.cpp
    kernels/dense_test.cpp kernels/elementwise_test.cpp kernels/fastest_test.cpp
    kernels/grid_sample_reference_test.cpp kernels/group_normalization_reference_test.cpp sdk/harness_test.cpp
    kernels/indexing_reference_test.cpp kernel_case.cpp kernels/kernels_test.cpp kernels/loss_reference_test.cpp kernels/movement_test.cpp
    kernels/normalization_test.cpp packed_weights_test.cpp kernels/pointwise_test.cpp kernels/pooling_test.cpp
    program_test.cpp kernels/quantization_reference_test.cpp kernels/ranking_reference_test.cpp
    kernels/reduction_test.cpp kernels/reference_test.cpp kernels/resize_test.cpp small_graph.cpp tensors.cpp
    thread_placement_test.cpp kernels/transposed_convolution_test.cpp warm_up_test.cpp kernels/winograd_test.cpp
  LIBRARIES opsplit-sdk opsplit_host opsplit_operators opsplit_graph OpenMP::OpenMP_CXX)
# Each kernel's tests have words of their own, by the same names.
set_target_properties(operators_tests PROPERTIES UNITY_BUILD OFF)
