// SPDX-License-Identifier: Apache-2.0
// CIFAR-10's and CIFAR-100's binary files: records without any header, each the label or labels, then the
// planes red, green and blue of 32 x 32 pixels, row by row. Format: www.cs.toronto.edu/~kriz/cifar.html.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lockstep {

inline constexpr int64_t kCifarChannels = 3;
inline constexpr int64_t kCifarSide = 32;
inline constexpr int64_t kCifarImageBytes = kCifarChannels * kCifarSide * kCifarSide;

// What a record begins with.
struct CifarLayout {
  int64_t label_bytes;
  // Which of them is the label.
  int64_t label_at;
  int64_t classes;

  // Record i is at i * record_bytes() of the file; its pixels begin label_bytes later.
  int64_t record_bytes() const { return label_bytes + kCifarImageBytes; }
};

inline constexpr CifarLayout kCifar10{1, 0, 10};
inline constexpr CifarLayout kCifar100Fine{2, 1, 100};
inline constexpr CifarLayout kCifar100Coarse{2, 0, 20};

// From the file's size. DATA_LOSS where it is not a number of whole records, at least one. `name` is used
// in messages.
absl::StatusOr<int64_t> CountCifarRecords(int fd, const std::string& name, const CifarLayout& layout);

// Reads all labels, and of the rest of a record only what comes with them. INVALID_ARGUMENT names the
// record whose label is no class. The file's position is neither used nor moved, here and below.
absl::Status ReadCifarLabels(int fd, const std::string& name, const CifarLayout& layout, std::vector<int32_t>* labels);

// Reads the whole file: [records, 3, 32, 32] pixels into `images`, which has room for
// CountCifarRecords * kCifarImageBytes, and the labels behind those that are there.
absl::Status ReadCifar(int fd, const std::string& name, const CifarLayout& layout, uint8_t* images,
                       std::vector<int32_t>* labels);

}  // namespace lockstep
