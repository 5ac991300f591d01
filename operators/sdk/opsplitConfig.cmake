# find_package(opsplit): the target opsplit::sdk, and
#   opsplit_add_operator(NAME SOURCE...)   a program that runs operators with the kernels in SOURCE
include(${CMAKE_CURRENT_LIST_DIR}/opsplitTargets.cmake)

function(opsplit_add_operator name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE opsplit::sdk)
endfunction()
