# find_package(opsplit): the target opsplit::sdk, and
#   opsplit_add_operator(NAME SOURCE...)   a program that runs operators with the kernels in SOURCE
# Where opsplit was built with CUDA, the target opsplit::cuda_sdk, too, and
#   opsplit_add_cuda_operator(NAME SOURCE...)   the same with kernels on a GPU; .cu files take project(... CUDA)
include(${CMAKE_CURRENT_LIST_DIR}/opsplitTargets.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/opsplitCuda20.cmake)

function(opsplit_add_operator name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE opsplit::sdk)
endfunction()

if(TARGET opsplit::cuda_sdk)
  find_package(CUDAToolkit 12.0 QUIET)
endif()

function(opsplit_add_cuda_operator name)
  if(NOT TARGET opsplit::cuda_sdk)
    message(FATAL_ERROR "${name}: the opsplit in ${opsplit_DIR} was built without CUDA, or without cuDNN")
  endif()
  if(NOT TARGET CUDA::cudart_static)
    message(FATAL_ERROR "${name}: no CUDA Toolkit of 12.0 or later was found (CUDAToolkit_ROOT says where it is)")
  endif()
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE opsplit::cuda_sdk)
endfunction()
