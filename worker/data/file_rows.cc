// SPDX-License-Identifier: Apache-2.0
#include "worker/data/file_rows.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace lockstep {

static_assert(std::endian::native == std::endian::little, "records are read as they lie");

namespace {

// False where a value is no finite float.
template <typename T>
bool Convert(const uint8_t* from, int64_t n, float scale, float offset, float* __restrict to) {
  int bad = 0;
  for (int64_t i = 0; i < n; ++i) {
    T stored;
    std::memcpy(&stored, from + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    const auto value = static_cast<float>(stored);
    bad |= static_cast<int>(!(std::fabs(value) <= std::numeric_limits<float>::max()));
    to[i] = value * scale + offset;
  }
  return bad == 0;
}

absl::Status CutShort(const std::string& path, int64_t record, int64_t of) {
  return absl::DataLossError(
      absl::StrCat(path, ": ends in sample ", record, " of ", of, "; it was cut short. Put the whole file back"));
}

}  // namespace

FileRows::FileRows(std::vector<std::string> roots, const RecordLayout& layout, Tensor targets)
    : roots_(std::move(roots)),
      layout_(layout),
      targets_(targets),
      buffer_(static_cast<size_t>(std::max(kReadBytes, layout.bytes))) {}

absl::StatusOr<std::unique_ptr<FileRows>> FileRows::Create(const std::vector<RecordFile>& files,
                                                           std::vector<std::string> roots, const RecordLayout& layout,
                                                           Tensor targets) {
  std::unique_ptr<FileRows> rows(new FileRows(std::move(roots), layout, targets));
  rows->files_.reserve(files.size());
  rows->open_.reserve(std::min(kOpenFiles, files.size()));
  rows->first_.reserve(files.size() + 1);
  rows->first_.push_back(0);
  for (const RecordFile& file : files) {
    rows->files_.push_back({.records = file});
    rows->first_.push_back(rows->first_.back() + file.records);
    LOCKSTEP_RETURN_IF_ERROR(rows->Open(rows->files_.back()));
  }
  return rows;
}

int64_t FileRows::bytes() const {
  size_t bytes = buffer_.capacity() + files_.capacity() * sizeof(Entry) + first_.capacity() * sizeof(int64_t) +
                 open_.capacity() * sizeof(Entry*);
  for (const Entry& entry : files_) bytes += entry.records.path.capacity();
  for (const Entry* entry : open_) bytes += entry->file->path().capacity();
  return static_cast<int64_t>(bytes);
}

absl::Status FileRows::Open(Entry& entry) {
  if (entry.file.has_value()) return absl::OkStatus();
  LOCKSTEP_ASSIGN_OR_RETURN(File file, OpenUnderRoots(entry.records.path, roots_));
  struct stat status = {};
  if (fstat(file.fd(), &status) != 0) return absl::UnavailableError(absl::StrCat(file.path(), ": ", strerror(errno)));
  if (entry.inode != 0 && (entry.inode != status.st_ino || entry.device != status.st_dev)) {
    return absl::DataLossError(absl::StrCat(file.path(), ": was replaced while it was used; submit the job again"));
  }
  entry.device = status.st_dev;
  entry.inode = status.st_ino;
  const int64_t whole = std::max<int64_t>(0, status.st_size - entry.records.begin) / layout_.bytes;
  if (whole < entry.records.records) return CutShort(file.path(), whole, entry.records.records);
  if (open_.size() < kOpenFiles) {
    open_.push_back(&entry);
  } else {
    std::exchange(open_[oldest_], &entry)->file.reset();
    oldest_ = (oldest_ + 1) % kOpenFiles;
  }
  entry.file.emplace(std::move(file));
  return absl::OkStatus();
}

absl::Status FileRows::Read(std::span<const int64_t> rows, float* features, void* targets) {
  const std::lock_guard lock(mutex_);
  const int64_t together = static_cast<int64_t>(buffer_.size()) / layout_.bytes;
  const int64_t width = targets_.data == nullptr ? 1 : targets_.elements() / targets_.shape[0];
  for (size_t i = 0; i < rows.size();) {
    const auto place = std::ranges::upper_bound(first_, rows[i]) - 1;
    Entry& entry = files_[static_cast<size_t>(place - first_.begin())];
    LOCKSTEP_RETURN_IF_ERROR(Open(entry));
    const int64_t record = rows[i] - *place;
    int64_t count = 1;
    const int64_t most = std::min({together, entry.records.records - record, static_cast<int64_t>(rows.size() - i)});
    while (count < most && rows[i + static_cast<size_t>(count)] == rows[i] + count) ++count;
    LOCKSTEP_RETURN_IF_ERROR(ReadRecords(entry, record, count));
    for (int64_t k = 0; k < count; ++k, ++i) {
      int32_t label = 0;
      LOCKSTEP_RETURN_IF_ERROR(
          Decode(entry, record + k, buffer_.data() + k * layout_.bytes, features + i * layout_.features, &label));
      // Targets of both types are four bytes wide.
      const auto* from = targets_.data == nullptr ? &label : targets_.as<int32_t>() + rows[i] * width;
      std::memcpy(static_cast<int32_t*>(targets) + i * width, from, static_cast<size_t>(width) * sizeof(int32_t));
    }
  }
  return absl::OkStatus();
}

absl::Status FileRows::ReadRecords(const Entry& entry, int64_t first, int64_t count) {
  const auto wanted = static_cast<size_t>(count * layout_.bytes);
  size_t got = 0;
  while (got < wanted) {
    const auto at = static_cast<off_t>(entry.records.begin + first * layout_.bytes + static_cast<int64_t>(got));
    const ssize_t some = pread(entry.file->fd(), buffer_.data() + got, wanted - got, at);
    if (some < 0 && errno == EINTR) continue;
    const int64_t record = first + static_cast<int64_t>(got) / layout_.bytes;
    if (some < 0) {
      return absl::UnavailableError(
          absl::StrCat(entry.file->path(), ": cannot read sample ", record, ": ", strerror(errno)));
    }
    if (some == 0) return CutShort(entry.file->path(), record, entry.records.records);
    got += static_cast<size_t>(some);
  }
  return absl::OkStatus();
}

absl::Status FileRows::Decode(const Entry& entry, int64_t record, const uint8_t* bytes, float* features,
                              int32_t* label) const {
  const uint8_t* from = bytes + layout_.first_feature;
  bool finite = true;
  switch (layout_.type) {
    case DType::kF32:
      finite = Convert<float>(from, layout_.features, layout_.scale, layout_.offset, features);
      break;
    case DType::kF64:
      finite = Convert<double>(from, layout_.features, layout_.scale, layout_.offset, features);
      break;
    default:
      Convert<uint8_t>(from, layout_.features, layout_.scale, layout_.offset, features);
  }
  if (!finite) {
    return absl::OutOfRangeError(
        absl::StrCat(entry.file->path(), ": sample ", record, " holds a value that is no finite float"));
  }
  if (layout_.label_at < 0) return absl::OkStatus();
  *label = bytes[layout_.label_at];
  if (*label < layout_.classes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(entry.file->path(), ": label ", *label, " of sample ", record,
                                                 " is out of range: the model has ", layout_.classes, " classes"));
}

}  // namespace lockstep
