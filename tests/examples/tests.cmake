# Examples, as a new user runs them; skipped by name where what they need is missing.
function(example_test name)
  add_test(NAME examples.${name} COMMAND system_tests --private ${ARGN})
  set_tests_properties(examples.${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 900 LABELS system RESOURCE_LOCK roudi)
endfunction()

set(mnist_python ${PROJECT_SOURCE_DIR}/build/venv/bin/python)
set(mnist_test ${CMAKE_CURRENT_SOURCE_DIR}/system/if_there.sh ${mnist_python} ${mnist_python} -B
  ${CMAKE_CURRENT_SOURCE_DIR}/examples/mnist_test.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
foreach(framework pytorch tensorflow)
  example_test(mnist_${framework} ${mnist_test} ${framework})
  example_test(mnist_${framework}_container ${mnist_test} ${framework} --image opsplit/operator-${framework})
  set_tests_properties(examples.mnist_${framework}_container PROPERTIES LABELS docker)
endforeach()

foreach(program data evaluate)
  add_test(NAME examples.mnist_${program} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/system/if_there.sh ${mnist_python}
    ${mnist_python} -B ${CMAKE_CURRENT_SOURCE_DIR}/examples/mnist_${program}_test.py)
  set_tests_properties(examples.mnist_${program} PROPERTIES
    SKIP_RETURN_CODE 77 LABELS unit TIMEOUT 300 ENVIRONMENT PYTHONPATH=${PROJECT_BINARY_DIR}/python)
endforeach()
