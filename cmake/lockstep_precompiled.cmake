# SPDX-License-Identifier: Apache-2.0
# What nearly every file includes is parsed once: other people's headers and the generated messages, never this project's
# own. A file still includes what it uses: -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON builds the same, as preset asan does.

# With precompiled headers ccache works only if it may trust them (its manual, "Precompiled headers").
if(CMAKE_CXX_COMPILER_LAUNCHER MATCHES "(^|/)ccache$")
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()
set(LOCKSTEP_PRECOMPILED_OPTIONS
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess>
  "$<$<COMPILE_LANG_AND_ID:CXX,Clang>:SHELL:-Xclang -fno-pch-timestamp>")
if(NOT CMAKE_DISABLE_PRECOMPILE_HEADERS)
  # Of what was precompiled GCC 12 does not know any more that it is the standard library's, and warns of std::string's
  # copies, which never leave their bounds (bugs 105329 and 105651).
  list(APPEND LOCKSTEP_PRECOMPILED_OPTIONS
    "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-array-bounds;-Wno-stringop-overflow;-Wno-stringop-overread>")
endif()

set(LOCKSTEP_HEADERS
  <algorithm> <array> <chrono> <cmath> <cstdint> <cstring> <functional> <map> <memory> <optional> <span> <string> <utility>
  <vector> <absl/status/status.h> <absl/status/statusor.h> <absl/strings/str_cat.h>)
set(LOCKSTEP_PROTO_HEADERS <lockstep/v1/events.pb.h> <lockstep/v1/job.pb.h>)
set(LOCKSTEP_TEST_HEADERS <filesystem> <fstream> <set> <gmock/gmock.h> <gtest/gtest.h>)

# lockstep_precompile(target group): for a target of this directory's flags; group is `library` or `test`. Takes effect
# in lockstep_precompile_headers.
function(lockstep_precompile target group)
  set_property(GLOBAL APPEND PROPERTY LOCKSTEP_PRECOMPILED_${group} ${target})
endfunction()

# Sets <out> to whether <target> is linked, by whatever way, with <wanted>.
function(lockstep_is_linked_with target wanted out)
  set(seen)
  set(left ${target})
  while(left)
    list(POP_FRONT left next)
    if(NOT TARGET ${next} OR next IN_LIST seen)
      continue()
    endif()
    list(APPEND seen ${next})
    get_target_property(aliased ${next} ALIASED_TARGET)
    foreach(property LINK_LIBRARIES INTERFACE_LINK_LIBRARIES)
      get_target_property(libraries ${next} ${property})
      if(libraries)
        list(TRANSFORM libraries REPLACE "^\\$<LINK_ONLY:(.+)>$" "\\1")
        list(APPEND left ${libraries})
      endif()
    endforeach()
    if(aliased)
      list(APPEND left ${aliased})
    endif()
  endwhile()
  list(FIND seen ${wanted} found)
  if(found EQUAL -1)
    set(${out} FALSE PARENT_SCOPE)
  else()
    set(${out} TRUE PARENT_SCOPE)
  endif()
endfunction()

# lockstep_precompiled_group(name HEADERS <a> <b> OPTIONS -O1 DEPS x): what the targets of a group share.
function(lockstep_precompiled_group name)
  cmake_parse_arguments(ARG "" "" "HEADERS;OPTIONS;DEPS" ${ARGN})
  set(source "${CMAKE_BINARY_DIR}/precompiled/${name}.cc")
  file(CONFIGURE OUTPUT "${source}" CONTENT "// Nothing but the precompiled headers.\n")
  add_library(lockstep_precompiled_${name} OBJECT EXCLUDE_FROM_ALL "${source}")
  target_link_libraries(lockstep_precompiled_${name} PRIVATE lockstep_options ${ARG_DEPS})
  target_compile_options(lockstep_precompiled_${name} PRIVATE ${ARG_OPTIONS} ${LOCKSTEP_PRECOMPILED_OPTIONS})
  target_precompile_headers(lockstep_precompiled_${name} PRIVATE ${ARG_HEADERS})
endfunction()

# Gives each target the headers of its group. Called last, when all that is linked is known.
function(lockstep_precompile_headers)
  set(library_options)
  set(test_options ${LOCKSTEP_TEST_OPTIONS})
  set(library_deps absl::status absl::statusor absl::strings)
  set(test_deps ${library_deps} GTest::gmock GTest::gtest)
  foreach(group library test)
    get_property(targets GLOBAL PROPERTY LOCKSTEP_PRECOMPILED_${group})
    foreach(target IN LISTS targets)
      lockstep_is_linked_with(${target} lockstep_proto proto)
      set(name ${group})
      set(headers ${LOCKSTEP_HEADERS})
      set(deps ${${group}_deps})
      if(group STREQUAL "test")
        list(APPEND headers ${LOCKSTEP_TEST_HEADERS})
      endif()
      if(proto)
        string(APPEND name _proto)
        list(APPEND headers ${LOCKSTEP_PROTO_HEADERS})
        list(APPEND deps lockstep::proto)
      endif()
      if(NOT TARGET lockstep_precompiled_${name})
        lockstep_precompiled_group(${name} HEADERS ${headers} OPTIONS ${${group}_options} DEPS ${deps})
      endif()
      target_precompile_headers(${target} REUSE_FROM lockstep_precompiled_${name})
      target_compile_options(${target} PRIVATE ${LOCKSTEP_PRECOMPILED_OPTIONS})
    endforeach()
  endforeach()
endfunction()
