# CMake 3.25 does not know that nvcc compiles C++20, nor how to ask for it.
cmake_policy(PUSH)
cmake_policy(SET CMP0057 NEW) # IN_LIST, whatever the including project asks for
if(CMAKE_CUDA_COMPILER_LOADED AND NOT cuda_std_20 IN_LIST CMAKE_CUDA_COMPILE_FEATURES)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
endif()
cmake_policy(POP)
