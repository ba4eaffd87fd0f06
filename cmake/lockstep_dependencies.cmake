# SPDX-License-Identifier: Apache-2.0
# Every outside library, in one place. All are Debian 12 packages (scripts/install-packages).
find_package(Threads REQUIRED)
# Module mode: Debian ships no CMake config for protobuf, and gRPC's config needs its targets.
find_package(Protobuf REQUIRED)
find_package(gRPC CONFIG REQUIRED)
find_package(absl CONFIG REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)
find_package(prometheus-cpp CONFIG REQUIRED)
find_package(civetweb CONFIG REQUIRED)
find_package(spdlog CONFIG REQUIRED)
find_package(CLI11 CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(yaml-cpp CONFIG REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(ZLIB REQUIRED)
find_package(CURL REQUIRED)

# Debian's oneDNN config wants OpenCL headers that nothing here uses, so look for the two files.
find_path(DNNL_INCLUDE_DIR dnnl.hpp REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
add_library(lockstep_dnnl INTERFACE)
target_include_directories(lockstep_dnnl SYSTEM INTERFACE "${DNNL_INCLUDE_DIR}")
target_link_libraries(lockstep_dnnl INTERFACE "${DNNL_LIBRARY}")

find_path(XXHASH_INCLUDE_DIR xxhash.h REQUIRED)
find_library(XXHASH_LIBRARY xxhash REQUIRED)
add_library(lockstep_xxhash INTERFACE)
target_include_directories(lockstep_xxhash SYSTEM INTERFACE "${XXHASH_INCLUDE_DIR}")
target_link_libraries(lockstep_xxhash INTERFACE "${XXHASH_LIBRARY}")

find_path(MINIZIP_INCLUDE_DIR minizip/unzip.h REQUIRED)
find_library(MINIZIP_LIBRARY minizip REQUIRED)
add_library(lockstep_minizip INTERFACE)
target_include_directories(lockstep_minizip SYSTEM INTERFACE "${MINIZIP_INCLUDE_DIR}")
target_link_libraries(lockstep_minizip INTERFACE "${MINIZIP_LIBRARY}")

if(LOCKSTEP_TESTS)
  find_package(GTest CONFIG REQUIRED)
endif()
if(LOCKSTEP_BENCH)
  find_package(benchmark CONFIG REQUIRED)
endif()
