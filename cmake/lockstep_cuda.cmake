# SPDX-License-Identifier: Apache-2.0
# LOCKSTEP_CUDA (AUTO, ON, OFF) becomes LOCKSTEP_HAS_CUDA: whether the CUDA plug-in is built. AUTO: where nvcc and cuDNN
# are found.
include(CheckLanguage)

# sets <why_not> to what is missing, or to nothing; and CUDNN_*.
macro(lockstep_find_cuda why_not)
  set(${why_not} "")
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    # Not in every PATH.
    find_program(LOCKSTEP_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
    mark_as_advanced(LOCKSTEP_NVCC)
    if(LOCKSTEP_NVCC)
      set(CMAKE_CUDA_COMPILER "${LOCKSTEP_NVCC}")
    endif()
  endif()
  # The same compiler for all of the host's code.
  if(NOT DEFINED CMAKE_CUDA_HOST_COMPILER AND NOT DEFINED ENV{CUDAHOSTCXX})
    set(CMAKE_CUDA_HOST_COMPILER "${CMAKE_CXX_COMPILER}")
  endif()
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    # Machine code for A100 and H100/H200, and PTX for what comes after; must be known before the language is enabled.
    set(CMAKE_CUDA_ARCHITECTURES "80-real;90-real;90-virtual")
  endif()
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    set(${why_not} "no working CUDA compiler (nvcc) was found; set CUDACXX or CUDA_HOME")
  else()
    enable_language(CUDA)
    find_package(CUDAToolkit 12.4)
    find_path(CUDNN_INCLUDE_DIR cudnn_graph.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
    find_library(CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR})
    if(NOT CUDAToolkit_FOUND OR NOT TARGET CUDA::cublasLt)
      set(${why_not} "no CUDA toolkit of version 12.4 or newer with cuBLASLt was found")
    elseif(NOT CUDNN_INCLUDE_DIR OR NOT CUDNN_LIBRARY)
      set(${why_not} "cuDNN 9 (cudnn_graph.h, libcudnn.so) was not found beside the CUDA toolkit")
    endif()
  endif()
endmacro()

set(LOCKSTEP_HAS_CUDA FALSE)
if(LOCKSTEP_CUDA STREQUAL "AUTO" AND (LOCKSTEP_SANITIZER OR LOCKSTEP_FUZZ))
  message(STATUS "CUDA plug-in: not built with sanitizers (-DLOCKSTEP_CUDA=ON builds it)")
elseif(LOCKSTEP_CUDA)
  lockstep_find_cuda(missing)
  if(NOT missing)
    set(LOCKSTEP_HAS_CUDA TRUE)
    message(STATUS "CUDA plug-in: CUDA ${CUDAToolkit_VERSION}, for ${CMAKE_CUDA_ARCHITECTURES}")
  elseif(LOCKSTEP_CUDA STREQUAL "AUTO")
    message(STATUS "CUDA plug-in: not built: ${missing}")
  else()
    message(FATAL_ERROR "LOCKSTEP_CUDA is ${LOCKSTEP_CUDA}, but ${missing}")
  endif()
endif()

if(LOCKSTEP_HAS_CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    # CMake before 3.25.2 does not know that nvcc has C++20.
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)

  # The libraries that the plug-in wants at run time. They are looked for where the system does not (device_loader.h).
  file(STRINGS "${CUDNN_INCLUDE_DIR}/cudnn_version.h" line REGEX "define CUDNN_MAJOR")
  string(REGEX MATCH "[0-9]+" cudnn_major "${line}")
  set(LOCKSTEP_CUDA_SONAMES "libcublasLt.so.${CUDAToolkit_VERSION_MAJOR}" "libcudnn.so.${cudnn_major}")

  add_library(lockstep_cudnn INTERFACE)
  target_include_directories(lockstep_cudnn SYSTEM INTERFACE "${CUDNN_INCLUDE_DIR}")
  target_link_libraries(lockstep_cudnn INTERFACE "${CUDNN_LIBRARY}")
endif()
