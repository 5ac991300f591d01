file(GLOB sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR}/base
  ${CMAKE_CURRENT_SOURCE_DIR}/base/*.cpp)
opsplit_test(base SOURCES ${sources} LIBRARIES opsplit_base)
