# System tests: real processes, one test per process of CTest. RouDi's names are fixed: each test has
# a /tmp and /dev/shm of its own where that is allowed, and the lock keeps the cores to one at a time.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/system/*.cpp)
list(FILTER sources EXCLUDE REGEX /custom_operator.cpp$)
add_executable(system_tests ${sources} private_namespace.cpp graph/model_builder.cpp)
target_link_libraries(system_tests PRIVATE
  opsplit_daemon opsplit_graph opsplit_ipc onnx_proto GTest::gmock GTest::gtest)
target_compile_definitions(system_tests PRIVATE
  OPSPLIT_SOURCE_DIR="${PROJECT_SOURCE_DIR}" OPSPLIT_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}"
  OPSPLIT_LIGHT_DIR="${PROJECT_BINARY_DIR}/light")
add_executable(custom-operator system/custom_operator.cpp)
target_link_libraries(custom-operator PRIVATE opsplit-sdk)
add_dependencies(system_tests custom-operator opsplit opsplitd opsplit-broker opsplit-operator digits-classify)
# Opsplit's programs on a machine whose GPUs are made of host memory, in a folder where opsplitd looks for others.
set(fake_gpu ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/fake-gpu)
if(TARGET fake-operator-cuda)
  add_custom_command(OUTPUT ${fake_gpu}/made
    COMMAND ${CMAKE_COMMAND} -E make_directory ${fake_gpu}
    COMMAND ln -f $<TARGET_FILE:opsplit> $<TARGET_FILE:opsplitd> $<TARGET_FILE:opsplit-broker>
      $<TARGET_FILE:opsplit-onnx-rules> $<TARGET_FILE:opsplit-operator> ${fake_gpu}
    COMMAND ln -f $<TARGET_FILE:fake-device-broker> ${fake_gpu}/opsplit-device-broker
    COMMAND ln -f $<TARGET_FILE:fake-operator-cuda> ${fake_gpu}/opsplit-operator-cuda
    COMMAND ${CMAKE_COMMAND} -E touch ${fake_gpu}/made
    DEPENDS opsplit opsplitd opsplit-broker opsplit-onnx-rules opsplit-operator fake-device-broker fake-operator-cuda
    VERBATIM)
  add_custom_target(fake-gpu DEPENDS ${fake_gpu}/made)
  add_dependencies(system_tests fake-gpu)
else()
  file(REMOVE_RECURSE ${fake_gpu}) # of an earlier build with CUDA
endif()
gtest_discover_tests(system_tests TEST_PREFIX system. DISCOVERY_MODE PRE_TEST
  TEST_FILTER -Long*:Light* PROPERTIES LABELS system TIMEOUT 300 RESOURCE_LOCK roudi)
gtest_discover_tests(system_tests TEST_PREFIX system. DISCOVERY_MODE PRE_TEST
  TEST_FILTER Long* TEST_LIST system_long_tests
  PROPERTIES LABELS long TIMEOUT 5400 RESOURCE_LOCK roudi)
gtest_discover_tests(system_tests TEST_PREFIX system. DISCOVERY_MODE PRE_TEST
  TEST_FILTER Light* TEST_LIST system_light_tests
  PROPERTIES LABELS system TIMEOUT 300 RESOURCE_LOCK roudi FIXTURES_REQUIRED light_models_small)

# The light models against ONNX Runtime, with the Python of scripts/python_env.sh; skipped without it.
set(light_python ${PROJECT_SOURCE_DIR}/build/venv/bin/python)
set(light_folder ${PROJECT_BINARY_DIR}/light)

# light_test(NAME COMMAND...): a test that exits with 77, skipped, where that Python is missing.
function(light_test name)
  add_test(NAME system.light_models.${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/system/if_there.sh
    ${light_python} ${ARGN})
  set_tests_properties(system.light_models.${name} PROPERTIES SKIP_RETURN_CODE 77)
endfunction()

# light_models(SET LABELS MODELS...): makes the models of the set, then runs each in all splits.
function(light_models set labels)
  list(TRANSFORM ARGN PREPEND light_ OUTPUT_VARIABLE folders)
  list(JOIN folders "," names)
  set(tools ${CMAKE_CURRENT_SOURCE_DIR}/tools)
  light_test(make_${set} sh -c "'${light_python}' '${tools}/light_models.py' --out '${light_folder}' \
--models ${names} && '${light_python}' '${tools}/expected.py' '${light_folder}' --models ${names} --check")
  set_tests_properties(system.light_models.make_${set} PROPERTIES
    LABELS "${labels}" TIMEOUT 900 FIXTURES_SETUP light_models_${set})
  foreach(model IN LISTS ARGN)
    light_test(${model} $<TARGET_FILE:system_tests> --private ${light_python}
      ${CMAKE_CURRENT_SOURCE_DIR}/system/light_models_test.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}
      ${light_folder}/light_${model} fused by-type stages:4 per-node)
    set_tests_properties(system.light_models.${model} PROPERTIES
      LABELS "${labels}" TIMEOUT 900 FIXTURES_REQUIRED light_models_${set} RESOURCE_LOCK roudi)
  endforeach()
endfunction()

# A real detector whose image sizes are open, at two of them.
function(detector_test size)
  set(tools ${CMAKE_CURRENT_SOURCE_DIR}/tools)
  string(REPLACE "x" "," sizes ${size})
  light_test(make_detector_${size} sh -c "'${light_python}' '${tools}/detector.py' --out '${light_folder}' detector_${size} \
&& '${light_python}' '${tools}/expected.py' '${light_folder}' --models detector_${size} --shape x=1,3,${sizes}")
  set_tests_properties(system.light_models.make_detector_${size} PROPERTIES
    LABELS system TIMEOUT 900 FIXTURES_SETUP detector_${size})
  light_test(detector_${size} $<TARGET_FILE:system_tests> --private ${light_python}
    ${CMAKE_CURRENT_SOURCE_DIR}/system/light_models_test.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}
    ${light_folder}/detector_${size} fused by-type stages:4)
  set_tests_properties(system.light_models.detector_${size} PROPERTIES
    LABELS system TIMEOUT 900 FIXTURES_REQUIRED detector_${size} RESOURCE_LOCK roudi)
endfunction()

detector_test(640x640)
detector_test(736x960)

# Operations of older operator sets.
light_test(onnx_nodes $<TARGET_FILE:system_tests> --private ${light_python}
  ${CMAKE_CURRENT_SOURCE_DIR}/system/onnx_nodes_test.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY})
set_tests_properties(system.light_models.onnx_nodes PROPERTIES
  LABELS system TIMEOUT 900 RESOURCE_LOCK roudi)

light_models(small system squeezenet shufflenet resnet50 densenet121 inception_v1)
light_models(large "system;long" bvlc_alexnet inception_v2 vgg19 zfnet512)

# The rivals of bench/transports; skipped where one is not built, or has no server here.
foreach(transport "shared volume" "Unix socket" REST gRPC ZeroMQ RabbitMQ)
  string(TOLOWER ${transport} name)
  string(MAKE_C_IDENTIFIER ${name} name)
  add_test(NAME system.transports.${name} COMMAND ${Python3_EXECUTABLE} -B
    ${CMAKE_CURRENT_SOURCE_DIR}/system/transports_test.py ${CMAKE_RUNTIME_OUTPUT_DIRECTORY} ${transport})
  set_tests_properties(system.transports.${name} PROPERTIES
    SKIP_RETURN_CODE 77 LABELS system TIMEOUT 300 RESOURCE_LOCK roudi)
endforeach()
