file(GLOB sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR}/ipc
  ${CMAKE_CURRENT_SOURCE_DIR}/ipc/*.cpp)
opsplit_test(ipc SOURCES ${sources} LIBRARIES opsplit_broker opsplit_device_broker opsplit_cuda
  spdlog::spdlog)
target_sources(ipc_tests PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/private_namespace.cpp)
add_dependencies(ipc_tests opsplit-broker)
