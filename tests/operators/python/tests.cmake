# The Python package, by the Python of scripts/python_env.sh; skipped without that.
set(python ${PROJECT_SOURCE_DIR}/build/venv/bin/python)
set(unit ${CMAKE_CURRENT_SOURCE_DIR}/operators/python)
set(system $<TARGET_FILE:system_tests> --private)
set(system_script ${CMAKE_CURRENT_SOURCE_DIR}/system/python_operator_test.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})

# python_test(NAME LABEL COMMAND...): exits with 77 where it is to be skipped.
function(python_test name label)
  add_test(NAME ${name} COMMAND ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT 300 SKIP_RETURN_CODE 77
    ENVIRONMENT PYTHONPATH=${PROJECT_BINARY_DIR}/python)
endfunction()

set(if_there ${CMAKE_CURRENT_SOURCE_DIR}/system/if_there.sh ${python})
foreach(test tensor operator backend imports)
  python_test(operators.python.${test} unit ${if_there} ${python} -B ${unit}/${test}_test.py)
endforeach()
python_test(system.python_operator system ${if_there} ${system} ${python} -B ${system_script})

# The package's module for GPUs, on GPUs that are host memory.
set(fake_cuda ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/fake-gpu/python)
if(TARGET _cuda)
  opsplit_python_module(fake-cuda operators/python/fake_cuda.cpp operators/cuda/host_gpu.cpp ipc/host_device.cpp)
  target_link_libraries(fake-cuda PRIVATE opsplit_gpu_operators opsplit_cuda_gpu)
  set_target_properties(fake-cuda PROPERTIES OUTPUT_NAME _cuda LIBRARY_OUTPUT_DIRECTORY ${fake_cuda})
endif()
python_test(operators.python.gpu unit ${if_there} ${python} -B ${unit}/gpu_test.py ${fake_cuda})
python_test(system.python_gpu system ${if_there} ${system} ${python} -B
  ${CMAKE_CURRENT_SOURCE_DIR}/system/python_gpu_test.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY} ${fake_cuda})
set_tests_properties(system.python_gpu PROPERTIES RESOURCE_LOCK roudi)

python_test(system.onnx_backend_life system ${if_there} ${system} ${python} -B
  ${CMAKE_CURRENT_SOURCE_DIR}/system/onnx_backend_life_test.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
set_tests_properties(system.onnx_backend_life PROPERTIES RESOURCE_LOCK roudi)

python_test(system.onnx_bundles system ${if_there} ${system} ${python} -B
  ${CMAKE_CURRENT_SOURCE_DIR}/system/onnx_bundles_test.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
set_tests_properties(system.onnx_bundles PROPERTIES TIMEOUT 900 RESOURCE_LOCK roudi)

# `pip install`: a build of its own.
python_test(system.pip_install long ${system} ${Python3_EXECUTABLE} -B
  ${CMAKE_CURRENT_SOURCE_DIR}/system/pip_install_test.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
set_tests_properties(system.pip_install PROPERTIES TIMEOUT 3600 RESOURCE_LOCK roudi)

# ONNX's backend tests, by the Python of scripts/common.sh's onnx_env; skipped without that.
set(onnx_python ${PROJECT_SOURCE_DIR}/build/venv-onnx/bin/python)
python_test(system.onnx_backend system ${CMAKE_CURRENT_SOURCE_DIR}/system/if_there.sh ${onnx_python} ${system}
  ${onnx_python} -B ${CMAKE_CURRENT_SOURCE_DIR}/system/onnx_backend_test.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
set_tests_properties(system.onnx_backend PROPERTIES TIMEOUT 1800 RESOURCE_LOCK roudi)

# PyTorch is Debian's, and so is the Python that has it.
set(if_torch sh -c "'${Python_EXECUTABLE}' -c 'import numpy, torch' 2>/dev/null && exec \"$@\" || echo 'skipped: it takes python3-torch' && exit 77" -)
foreach(test tensor imports)
  python_test(operators.python.${test}_pytorch unit ${if_torch} ${Python_EXECUTABLE} -B ${unit}/${test}_test.py)
endforeach()
python_test(operators.python.pytorch unit ${if_torch} ${Python_EXECUTABLE} -B ${unit}/pytorch_test.py)
python_test(system.python_operator_pytorch system ${if_torch} ${system} ${Python_EXECUTABLE} -B ${system_script} -k pytorch)

# TensorFlow is in a virtual environment of its own.
set(tensorflow_python ${PROJECT_SOURCE_DIR}/build/venv-tensorflow/bin/python)
set(if_tensorflow ${CMAKE_CURRENT_SOURCE_DIR}/system/if_there.sh ${tensorflow_python})
python_test(operators.python.imports_tensorflow unit ${if_tensorflow} ${tensorflow_python} -B ${unit}/imports_test.py)
python_test(operators.python.tensorflow unit ${if_tensorflow} ${tensorflow_python} -B ${unit}/tensorflow_test.py)
python_test(system.python_operator_tensorflow system
  ${if_tensorflow} ${system} ${tensorflow_python} -B ${system_script} -k tensorflow)

set_tests_properties(system.python_operator system.python_operator_pytorch system.python_operator_tensorflow PROPERTIES
  TIMEOUT 600 RESOURCE_LOCK roudi)
