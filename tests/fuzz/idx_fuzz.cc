// SPDX-License-Identifier: Apache-2.0
// IDX files, plain and gzip.
#include "common/formats/idx.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int fd = lockstep::InputFile::Of(data, size);
  const auto header = lockstep::ReadIdxHeader(fd, "f");
  const auto whole = lockstep::ReadIdx(fd, "f");
  // What is read is what the header says.
  if (whole.ok() && !(header.ok() && header->elements() == static_cast<int64_t>(whole->values.size()))) std::abort();
  return 0;
}
