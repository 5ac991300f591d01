opsplit_test(operators
  SOURCES content_hash_test.cpp convolution_test.cpp dense_test.cpp kernel_case.cpp movement_test.cpp
    normalization_test.cpp packed_weights_test.cpp pointwise_test.cpp pooling_test.cpp
    program_test.cpp reference_test.cpp small_graph.cpp tensors.cpp
  LIBRARIES opsplit_operators opsplit_graph)
