# The Python package, by the Python of scripts/python_env.sh; skipped without that.
set(python ${PROJECT_SOURCE_DIR}/build/venv/bin/python)
set(python_path PYTHONPATH=${PROJECT_BINARY_DIR}/python)

# python_test(NAME LABEL PYTHON COMMAND...): exits with 77, skipped, where that Python is missing.
function(python_test name label interpreter)
  add_test(NAME ${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/system/if_there.sh ${interpreter} ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT 300 SKIP_RETURN_CODE 77 ENVIRONMENT ${python_path})
endfunction()

foreach(test tensor operator backend imports)
  python_test(operators.python.${test} unit ${python} ${python} -B
    ${CMAKE_CURRENT_SOURCE_DIR}/operators/python/${test}_test.py)
endforeach()
python_test(system.python_operator system ${python} $<TARGET_FILE:system_tests> --private ${python} -B
  ${CMAKE_CURRENT_SOURCE_DIR}/system/python_operator_test.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
set_tests_properties(system.python_operator PROPERTIES TIMEOUT 600 RESOURCE_LOCK roudi)
