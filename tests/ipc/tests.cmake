file(GLOB sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR}/ipc
  ${CMAKE_CURRENT_SOURCE_DIR}/ipc/*.cpp)
list(FILTER sources EXCLUDE REGEX "^(cuda_driver_test|fake_device_broker|gpu_victim|host_device).cpp$")
# Each has launch numbers of its own, by the same names.
set_source_files_properties(ipc/handover_kill_test.cpp ipc/handover_test.cpp ipc/worker_test.cpp
  PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
opsplit_test(ipc SOURCES ${sources} LIBRARIES opsplit_broker opsplit_device_broker spdlog::spdlog)
target_sources(ipc_tests PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/private_namespace.cpp)
add_dependencies(ipc_tests opsplit-broker opsplit-device-broker)

# For other folders' tests.
add_executable(fake-device-broker ipc/fake_device_broker.cpp ipc/host_device.cpp)
target_link_libraries(fake-device-broker PRIVATE opsplit_device_broker)

# What needs a GPU, one test at a time. Without one each is skipped, and says why.
add_executable(gpu_tests ipc/cuda_driver_test.cpp ipc/main.cpp ipc/other_process.cpp private_namespace.cpp)
target_link_libraries(gpu_tests PRIVATE opsplit_ipc opsplit_cuda GTest::gmock GTest::gtest)
target_compile_definitions(gpu_tests PRIVATE OPSPLIT_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
add_dependencies(gpu_tests opsplit-device-broker)
if(OPSPLIT_HAS_CUDA)
  add_executable(gpu-victim ipc/gpu_victim.cpp ipc/gpu_kernels.cu)
  target_link_libraries(gpu-victim PRIVATE opsplit_ipc opsplit_cuda CUDA::cudart_static)
  add_dependencies(gpu_tests gpu-victim)
endif()
gtest_discover_tests(gpu_tests TEST_PREFIX gpu. DISCOVERY_MODE PRE_TEST
  PROPERTIES LABELS gpu TIMEOUT 600 RESOURCE_LOCK gpu)
