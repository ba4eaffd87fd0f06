// SPDX-License-Identifier: Apache-2.0
// An input as an open file, for readers that take one.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace lockstep {

// In memory; a process has one for each thread, whose content each input replaces.
class InputFile {
 public:
  // The descriptor of a file of these bytes.
  static int Of(const uint8_t* data, size_t size) {
    static thread_local const int fd = memfd_create("input", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != static_cast<ssize_t>(size)) std::abort();
    return fd;
  }
};

}  // namespace lockstep
