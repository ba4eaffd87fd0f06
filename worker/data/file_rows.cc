// SPDX-License-Identifier: Apache-2.0
#include "worker/data/file_rows.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace lockstep {

static_assert(std::endian::native == std::endian::little, "records are read as they lie");

namespace {

template <typename T>
void Convert(const uint8_t* from, int64_t n, float scale, float offset, float* __restrict to) {
  for (int64_t i = 0; i < n; ++i) {
    T value;
    std::memcpy(&value, from + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    to[i] = static_cast<float>(value) * scale + offset;
  }
}

absl::Status CutShort(const RecordFile& file, int64_t record) {
  return absl::DataLossError(absl::StrCat(file.file.path(), ": ends in sample ", record, " of ", file.records,
                                          "; it was cut short. Put the whole file back"));
}

}  // namespace

FileRows::FileRows(std::vector<RecordFile> files, const RecordLayout& layout, Tensor targets)
    : files_(std::move(files)),
      layout_(layout),
      targets_(targets),
      buffer_(static_cast<size_t>(std::max(kReadBytes, layout.bytes))) {
  first_.push_back(0);
  for (const RecordFile& file : files_) first_.push_back(first_.back() + file.records);
}

absl::StatusOr<std::unique_ptr<FileRows>> FileRows::Create(std::vector<RecordFile> files, const RecordLayout& layout,
                                                           Tensor targets) {
  for (const RecordFile& file : files) {
    struct stat status = {};
    if (fstat(file.file.fd(), &status) != 0) {
      return absl::UnavailableError(absl::StrCat(file.file.path(), ": ", strerror(errno)));
    }
    if (file.records > (status.st_size - file.begin) / layout.bytes) {
      return CutShort(file, std::max<int64_t>(0, (status.st_size - file.begin) / layout.bytes));
    }
  }
  return std::unique_ptr<FileRows>(new FileRows(std::move(files), layout, targets));
}

int64_t FileRows::bytes() const {
  return static_cast<int64_t>(buffer_.capacity() + files_.capacity() * sizeof(RecordFile) +
                              first_.capacity() * sizeof(int64_t));
}

absl::Status FileRows::Read(std::span<const int64_t> rows, float* features, void* targets) {
  const int64_t together = static_cast<int64_t>(buffer_.size()) / layout_.bytes;
  const int64_t width = targets_.data == nullptr ? 1 : targets_.elements() / targets_.shape[0];
  for (size_t i = 0; i < rows.size();) {
    const auto place = std::ranges::upper_bound(first_, rows[i]) - 1;
    const RecordFile& file = files_[static_cast<size_t>(place - first_.begin())];
    const int64_t record = rows[i] - *place;
    int64_t count = 1;
    const int64_t most = std::min({together, file.records - record, static_cast<int64_t>(rows.size() - i)});
    while (count < most && rows[i + static_cast<size_t>(count)] == rows[i] + count) ++count;
    LOCKSTEP_RETURN_IF_ERROR(ReadRecords(file, record, count));
    for (int64_t k = 0; k < count; ++k, ++i) {
      int32_t label = 0;
      LOCKSTEP_RETURN_IF_ERROR(
          Decode(file, record + k, buffer_.data() + k * layout_.bytes, features + i * layout_.features, &label));
      // Targets of both types are four bytes wide.
      const auto* from = targets_.data == nullptr ? &label : targets_.as<int32_t>() + rows[i] * width;
      std::memcpy(static_cast<int32_t*>(targets) + i * width, from, static_cast<size_t>(width) * sizeof(int32_t));
    }
  }
  return absl::OkStatus();
}

absl::Status FileRows::ReadRecords(const RecordFile& file, int64_t first, int64_t count) {
  const auto wanted = static_cast<size_t>(count * layout_.bytes);
  size_t got = 0;
  while (got < wanted) {
    const auto at = static_cast<off_t>(file.begin + first * layout_.bytes + static_cast<int64_t>(got));
    const ssize_t some = pread(file.file.fd(), buffer_.data() + got, wanted - got, at);
    if (some < 0 && errno == EINTR) continue;
    const int64_t record = first + static_cast<int64_t>(got) / layout_.bytes;
    if (some < 0) {
      return absl::UnavailableError(
          absl::StrCat(file.file.path(), ": cannot read sample ", record, ": ", strerror(errno)));
    }
    if (some == 0) return CutShort(file, record);
    got += static_cast<size_t>(some);
  }
  return absl::OkStatus();
}

absl::Status FileRows::Decode(const RecordFile& file, int64_t record, const uint8_t* bytes, float* features,
                              int32_t* label) const {
  const uint8_t* from = bytes + layout_.first_feature;
  switch (layout_.type) {
    case DType::kF32:
      Convert<float>(from, layout_.features, layout_.scale, layout_.offset, features);
      break;
    case DType::kF64:
      Convert<double>(from, layout_.features, layout_.scale, layout_.offset, features);
      break;
    default:
      Convert<uint8_t>(from, layout_.features, layout_.scale, layout_.offset, features);
  }
  if (layout_.label_at < 0) return absl::OkStatus();
  *label = bytes[layout_.label_at];
  if (*label < layout_.classes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(file.file.path(), ": label ", *label, " of sample ", record,
                                                 " is out of range: the model has ", layout_.classes, " classes"));
}

}  // namespace lockstep
