# SPDX-License-Identifier: Apache-2.0
# lockstep_library, lockstep_executable and lockstep_test: one way to declare a target.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

add_library(lockstep_options INTERFACE)
set(warnings -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wno-missing-field-initializers)
target_compile_options(lockstep_options INTERFACE
  "$<$<COMPILE_LANGUAGE:C,CXX>:${warnings}>"
  # GCC 12 sees overlaps in std::string (bug 105651) and unset members in std::variant (bug 105562) that
  # are not there.
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict> $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-maybe-uninitialized>
  # Bits must not depend on what the compiler chooses to contract or reassociate.
  "$<$<COMPILE_LANGUAGE:C,CXX>:-ffp-contract=off;-fno-fast-math>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-fmad=false>"
  $<$<AND:$<BOOL:${LOCKSTEP_WERROR}>,$<COMPILE_LANGUAGE:C,CXX>>:-Werror>
  "$<$<AND:$<BOOL:${LOCKSTEP_WERROR}>,$<COMPILE_LANGUAGE:CUDA>>:-Werror=all-warnings;-Xcompiler=-Werror>")
target_include_directories(lockstep_options INTERFACE "${PROJECT_SOURCE_DIR}")
target_link_libraries(lockstep_options INTERFACE Threads::Threads)
if(LOCKSTEP_SANITIZER)
  add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${LOCKSTEP_SANITIZER}>
    $<$<COMPILE_LANGUAGE:C,CXX>:-fno-omit-frame-pointer> $<$<COMPILE_LANGUAGE:C,CXX>:-fno-sanitize-recover=all>)
  add_link_options(-fsanitize=${LOCKSTEP_SANITIZER})
endif()
if(LOCKSTEP_FUZZ)
  # Counts where an input leads; the fuzzers alone are linked with the engine.
  add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=fuzzer-no-link>)
endif()

# lockstep_library(name [OWN_FLAGS] SOURCES a.cc b.cc DEPS x y): a static library `lockstep_<name>`, alias
# `lockstep::<name>`. OWN_FLAGS: some are compiled with flags of their own, so that no headers are precompiled for it.
function(lockstep_library name)
  cmake_parse_arguments(ARG "OWN_FLAGS" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  if(ARG_SOURCES)
    add_library(lockstep_${name} STATIC ${ARG_SOURCES})
    target_link_libraries(lockstep_${name} PUBLIC lockstep_options ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
    if(NOT ARG_OWN_FLAGS)
      lockstep_precompile(lockstep_${name} library)
    endif()
  else()
    add_library(lockstep_${name} INTERFACE)
    target_link_libraries(lockstep_${name} INTERFACE lockstep_options ${ARG_DEPS})
  endif()
  add_library(lockstep::${name} ALIAS lockstep_${name})
endfunction()

# lockstep_executable(name SOURCES main.cc DEPS x y): a program, installed.
function(lockstep_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE lockstep_options ${ARG_DEPS})
  install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()

# Tests compile in three quarters of the time so; what is tested is compiled as it is shipped. All are linked into programs,
# also the cases that are compiled apart, and so have the same precompiled headers.
set(LOCKSTEP_TEST_OPTIONS $<$<CONFIG:Release>:-O1> -fPIE)

# lockstep_test_cases(name SOURCES a_test.cc DEPS x): tests that several programs run, compiled once. They are a DEP of each.
function(lockstep_test_cases name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} OBJECT ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC lockstep_options ${ARG_DEPS} GTest::gmock GTest::gtest)
  target_compile_options(${name} PRIVATE ${LOCKSTEP_TEST_OPTIONS})
  lockstep_precompile(${name} test)
endfunction()

# The target <LABEL>_tests builds all of a label.
# lockstep_test(name LABEL unit SOURCES a_test.cc DEPS x [TIMEOUT 60] [PROCESSORS 1] [SANITIZED_SHARDS 1]): one GoogleTest
# program. Under a sanitizer its cases are spread over so many tests, each of which has the whole time.
function(lockstep_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT;PROCESSORS;SANITIZED_SHARDS" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(NOT LOCKSTEP_SANITIZER OR NOT ARG_SANITIZED_SHARDS)
    set(ARG_SANITIZED_SHARDS 1)
  endif()
  # The thread sanitizer makes what touches much memory many times as slow. Tests that measure are told.
  set(slowness 1)
  if(LOCKSTEP_SANITIZER)
    set(slowness 5)
  endif()
  math(EXPR ARG_TIMEOUT "${slowness} * ${ARG_TIMEOUT}")
  if(NOT ARG_PROCESSORS)
    set(ARG_PROCESSORS 1)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  if(NOT TARGET ${ARG_LABEL}_tests)
    add_custom_target(${ARG_LABEL}_tests)
  endif()
  add_dependencies(${ARG_LABEL}_tests ${name})
  target_link_libraries(${name} PRIVATE lockstep_options ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  target_compile_options(${name} PRIVATE ${LOCKSTEP_TEST_OPTIONS})
  lockstep_precompile(${name} test)
  foreach(shard RANGE 1 ${ARG_SANITIZED_SHARDS})
    set(test ${ARG_LABEL}/${name})
    if(ARG_SANITIZED_SHARDS GREATER 1)
      string(APPEND test _${shard}_of_${ARG_SANITIZED_SHARDS})
    endif()
    math(EXPR index "${shard} - 1")
    add_test(NAME ${test} COMMAND ${name} --gtest_brief=1)
    set_tests_properties(${test} PROPERTIES
      LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT} PROCESSORS ${ARG_PROCESSORS}
      ENVIRONMENT "TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/tsan.supp ignore_noninstrumented_modules=1 report_mutex_bugs=0;ASAN_OPTIONS=detect_leaks=0;LOCKSTEP_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};LOCKSTEP_SOURCE_DIR=${PROJECT_SOURCE_DIR};LOCKSTEP_TEST_SLOWNESS=${slowness};GTEST_TOTAL_SHARDS=${ARG_SANITIZED_SHARDS};GTEST_SHARD_INDEX=${index}")
  endforeach()
endfunction()
