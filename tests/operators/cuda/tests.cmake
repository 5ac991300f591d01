# Kernels on a GPU: each case on the CPU, and on a GPU where there is one.
if(TARGET opsplit_cuda_operator)
  opsplit_test(operators/cuda
    SOURCES convolution_test.cpp cuda_case.cpp cuda_gpu_test.cpp cuda_kernels_test.cpp cuda_program_test.cpp
      cuda_status_test.cpp dense_test.cpp elementwise_test.cpp gpu_operator_test.cpp gpu_site_test.cpp host_gpu.cpp
      library_status_test.cpp movement_test.cpp pooling_test.cpp
      softmax_test.cpp ../sdk/cuda_sdk_test.cpp ../small_graph.cpp ../tensors.cpp ../../graph/model_builder.cpp
      ../../ipc/host_device.cpp
    LIBRARIES opsplit_cuda_operator opsplit_cuda opsplit_device_broker opsplit_graph onnx_proto)
  # What the SDK's library does not show.
  set(sdk ${PROJECT_SOURCE_DIR}/operators/sdk)
  target_sources(operators_cuda_tests PRIVATE
    ${sdk}/cuda_harness.cpp ${sdk}/cuda_sdk.cpp ${sdk}/harness.cpp ${sdk}/sdk.cpp)
  target_include_directories(operators_cuda_tests PRIVATE ${sdk})
  target_compile_definitions(operators_cuda_tests PRIVATE OPSPLIT_LIGHT_DIR="${PROJECT_BINARY_DIR}/light")

  # For tests/system: what opsplitd finds in a folder with opsplit's other programs.
  add_executable(fake-operator-cuda operators/cuda/fake_operator.cpp operators/cuda/host_gpu.cpp ipc/host_device.cpp)
  target_link_libraries(fake-operator-cuda PRIVATE opsplit_cuda_operator)

  # The SDK's example, as users build it outside of the tree (docs/first-cuda-operator.md): here against the library as
  # it is just now, and for scripts/gpu-check.sh.
  add_executable(custom_cuda_kernel_tests ${PROJECT_SOURCE_DIR}/examples/custom-cuda-kernel/softmax_test.cu)
  target_link_libraries(custom_cuda_kernel_tests PRIVATE opsplit-cuda-sdk GTest::gtest_main)
  include(${sdk}/opsplitCuda20.cmake)
  set_target_properties(custom_cuda_kernel_tests PROPERTIES CUDA_STANDARD 20)
  gtest_discover_tests(custom_cuda_kernel_tests TEST_PREFIX examples.custom_cuda_kernel. DISCOVERY_MODE PRE_TEST
    PROPERTIES LABELS gpu TIMEOUT 120 RESOURCE_LOCK gpu)
endif()
