// SPDX-License-Identifier: Apache-2.0
// CIFAR's records: the first byte chooses the kind, the rest is the file.
#include "common/formats/cifar.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const lockstep::CifarLayout layouts[] = {lockstep::kCifar10, lockstep::kCifar100Fine, lockstep::kCifar100Coarse};
  const lockstep::CifarLayout& layout = layouts[data[0] % 3];
  const int fd = lockstep::InputFile::Of(data + 1, size - 1);
  const auto records = lockstep::CountCifarRecords(fd, "f", layout);
  if (!records.ok()) return 0;
  std::vector<uint8_t> images(static_cast<size_t>(*records * lockstep::kCifarImageBytes));
  std::vector<int32_t> labels, alone;
  const absl::Status whole = lockstep::ReadCifar(fd, "f", layout, images.data(), &labels);
  const absl::Status only_labels = lockstep::ReadCifarLabels(fd, "f", layout, &alone);
  if (whole.ok() != only_labels.ok() || (whole.ok() && labels != alone)) std::abort();
  for (int32_t label : labels) {
    if (label < 0 || label >= layout.classes) std::abort();
  }
  return 0;
}
