// SPDX-License-Identifier: Apache-2.0
// RowSource: the samples of one part of a data set, wherever they lie.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"

namespace lockstep {

// Belongs to the Dataset. Any thread.
class RowSource {
 public:
  virtual ~RowSource() = default;

  // Samples `rows`, each below the part's count, one behind the other: `features` gets value * scale + offset,
  // `targets` what the table's targets are (int32_t or float). DATA_LOSS where a file is cut
  // short, UNAVAILABLE where it cannot be read, INVALID_ARGUMENT or OUT_OF_RANGE for a bad value; all name file and
  // sample.
  virtual absl::Status Read(std::span<const int64_t> rows, float* features, void* targets) = 0;
  // Bytes of the data set that it holds in memory.
  virtual int64_t bytes() const = 0;
};

}  // namespace lockstep
