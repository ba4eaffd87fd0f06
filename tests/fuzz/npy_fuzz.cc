// SPDX-License-Identifier: Apache-2.0
// .npy files.
#include "common/formats/npy.h"
#include "tests/fuzz/array_input.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int fd = lockstep::InputFile::Of(data, size);
  const auto header = lockstep::ReadNpyHeader(fd, "f");
  // The file is as long as the header says.
  if (header.ok() && header->data_offset + header->data_bytes() != static_cast<int64_t>(size)) std::abort();
  lockstep::ReadToTheEnd(fd, "");
  return 0;
}
