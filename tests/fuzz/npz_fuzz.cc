// SPDX-License-Identifier: Apache-2.0
// .npz archives, and any zip archive.
#include "common/formats/zip_reader.h"
#include "tests/fuzz/array_input.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int fd = lockstep::InputFile::Of(data, size);
  lockstep::ReadToTheEnd(fd, "x");
  lockstep::ReadToTheEnd(fd, "");
  const auto zip = lockstep::ZipReader::Open(fd, "f");
  if (!zip.ok()) return 0;
  std::vector<uint8_t> piece(1000);
  // A few: a directory of thousands says nothing more.
  for (size_t i = 0; i < std::min<size_t>((*zip)->members().size(), 8); ++i) {
    if (!(*zip)->OpenMember(i).ok()) continue;
    for (auto got = (*zip)->Read(piece.data(), piece.size()); got.ok() && *got == piece.size();) {
      got = (*zip)->Read(piece.data(), piece.size());
    }
  }
  return 0;
}
