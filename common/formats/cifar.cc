// SPDX-License-Identifier: Apache-2.0
#include "common/formats/cifar.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/formats/npy.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

// Records that are read at a time.
constexpr int64_t kChunk = 64;

absl::Status Check(const std::string& name, const CifarLayout& layout, const uint8_t* record, int64_t index) {
  for (int64_t i = 0; i < layout.label_bytes; ++i) {
    // A coarse and a fine label.
    const int64_t classes = layout.label_bytes == 1 ? layout.classes
                            : i == 0                ? kCifar100Coarse.classes
                                                    : kCifar100Fine.classes;
    if (record[i] < classes) continue;
    return absl::InvalidArgumentError(absl::StrCat(name, ": label ", int{record[i]}, " of record ", index,
                                                   " is out of range: there are ", classes,
                                                   " classes; is it a file of CIFAR-10 read as CIFAR-100, or of "
                                                   "another kind?"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<int64_t> CountCifarRecords(int fd, const std::string& name, const CifarLayout& layout) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return absl::DataLossError(absl::StrCat(name, ": ", std::strerror(errno)));
  if (info.st_size == 0) return absl::DataLossError(absl::StrCat(name, ": the file is empty"));
  if (const int64_t rest = info.st_size % layout.record_bytes(); rest != 0) {
    return absl::DataLossError(absl::StrCat(name, ": ", info.st_size, " bytes are not whole records of ",
                                            layout.record_bytes(), " bytes: ", rest,
                                            " are left; is it cut off, or are dataset.cifar.labels wrong?"));
  }
  return info.st_size / layout.record_bytes();
}

absl::Status ReadCifarLabels(int fd, const std::string& name, const CifarLayout& layout, std::vector<int32_t>* labels) {
  LOCKSTEP_ASSIGN_OR_RETURN(const int64_t records, CountCifarRecords(fd, name, layout));
  uint8_t head[2] = {};
  for (int64_t i = 0; i < records; ++i) {
    const ReadBytesFunction read = ReadFileFrom(fd, name, i * layout.record_bytes());
    LOCKSTEP_ASSIGN_OR_RETURN(const size_t got, read(head, static_cast<size_t>(layout.label_bytes)));
    if (got < static_cast<size_t>(layout.label_bytes)) return absl::DataLossError(name + ": became shorter");
    LOCKSTEP_RETURN_IF_ERROR(Check(name, layout, head, i));
    labels->push_back(head[layout.label_at]);
  }
  return absl::OkStatus();
}

absl::Status ReadCifar(int fd, const std::string& name, const CifarLayout& layout, uint8_t* images,
                       std::vector<int32_t>* labels) {
  LOCKSTEP_ASSIGN_OR_RETURN(const int64_t records, CountCifarRecords(fd, name, layout));
  const ReadBytesFunction read = ReadFileFrom(fd, name, 0);
  const auto record_bytes = static_cast<size_t>(layout.record_bytes());
  std::vector<uint8_t> block(kChunk * record_bytes);
  for (int64_t first = 0; first < records; first += kChunk) {
    const auto count = static_cast<size_t>(std::min(kChunk, records - first));
    LOCKSTEP_ASSIGN_OR_RETURN(const size_t got, read(block.data(), count * record_bytes));
    if (got < count * record_bytes) return absl::DataLossError(name + ": became shorter");
    for (size_t i = 0; i < count; ++i) {
      const uint8_t* record = block.data() + i * record_bytes;
      LOCKSTEP_RETURN_IF_ERROR(Check(name, layout, record, first + static_cast<int64_t>(i)));
      labels->push_back(record[layout.label_at]);
      std::memcpy(images, record + layout.label_bytes, kCifarImageBytes);
      images += kCifarImageBytes;
    }
  }
  return absl::OkStatus();
}

}  // namespace lockstep
