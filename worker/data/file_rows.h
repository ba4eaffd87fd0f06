// SPDX-License-Identifier: Apache-2.0
// FileRows: samples that stay in their files and are read when they are asked for. With pread, not mapped: a file
// that is cut short is then an error and not a signal, and what the kernel caches is not this process's memory.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/formats/safe_path.h"
#include "worker/data/row_source.h"
#include "worker/device/tensor.h"

namespace lockstep {

// What one record of a file holds.
struct RecordLayout {
  int64_t bytes = 0;
  // Where the features begin, `features` values of `type` (kU8, kF32, kF64; little-endian).
  int64_t first_feature = 0;
  int64_t features = 0;
  DType type = DType::kU8;
  // x = value * scale + offset, in float.
  float scale = 1.0f;
  float offset = 0.0f;
  // The byte that is the label; -1: targets are given beside the records.
  int64_t label_at = -1;
  // Labels are in [0, classes).
  int64_t classes = 0;
};

// Records one behind the other in a file.
struct RecordFile {
  // For OpenUnderRoots.
  std::string path;
  // Where the first one begins.
  int64_t begin = 0;
  int64_t records = 0;
};

// Room for the records of one read; samples that lie together are read together.
inline constexpr int64_t kReadBytes = 64 << 10;
// A set may have more files than a process may open.
inline constexpr size_t kOpenFiles = 64;

class FileRows final : public RowSource {
 public:
  // `files` in the order of the samples, below one of `roots`. `targets`: of all samples, or null data where records
  // have labels; it outlives the object. Refuses files that are shorter than they should be.
  static absl::StatusOr<std::unique_ptr<FileRows>> Create(const std::vector<RecordFile>& files,
                                                          std::vector<std::string> roots, const RecordLayout& layout,
                                                          Tensor targets);

  // Any thread: training and held-out samples may be those of one set. Calls take turns.
  absl::Status Read(std::span<const int64_t> rows, float* features, void* targets) override;
  int64_t bytes() const override;
  int64_t samples() const { return first_.back(); }

 private:
  struct Entry {
    RecordFile records;
    std::optional<File> file;
    // Which file it was when the set was opened.
    dev_t device = 0;
    ino_t inode = 0;
  };

  FileRows(std::vector<std::string> roots, const RecordLayout& layout, Tensor targets);

  // Opens it where it is not open; closes another one where too many are.
  absl::Status Open(Entry& entry);
  absl::Status ReadRecords(const Entry& entry, int64_t first, int64_t count);
  absl::Status Decode(const Entry& entry, int64_t record, const uint8_t* bytes, float* features, int32_t* label) const;

  std::mutex mutex_;
  std::vector<std::string> roots_;
  std::vector<Entry> files_;
  // The open ones, a ring: the oldest is closed first.
  std::vector<Entry*> open_;
  size_t oldest_ = 0;
  RecordLayout layout_;
  Tensor targets_;
  // Of each file, the set's number of its first sample; and the count of all.
  std::vector<int64_t> first_;
  std::vector<uint8_t> buffer_;
};

}  // namespace lockstep
