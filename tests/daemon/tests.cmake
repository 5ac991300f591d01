file(GLOB sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR}/daemon
  ${CMAKE_CURRENT_SOURCE_DIR}/daemon/*.cpp)
opsplit_test(daemon SOURCES ${sources} LIBRARIES opsplit_daemon opsplit_metrics onnx_proto)
target_sources(daemon_tests PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/private_namespace.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/graph/model_builder.cpp)
add_dependencies(daemon_tests fake-device-broker opsplit-onnx-rules)
