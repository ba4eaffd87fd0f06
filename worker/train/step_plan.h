// SPDX-License-Identifier: Apache-2.0
// Which samples a step and a shard are made of: pure functions of the job, never of the ranks.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lockstep {

// Half-open.
struct RowRange {
  int64_t first = 0;
  int64_t end = 0;
  int64_t size() const { return end - first; }
};

// Where a step lies.
struct StepPlace {
  // From 0.
  int64_t epoch = 0;
  // Position in the epoch's order of the step's first sample.
  int64_t first_position = 0;
  // Samples in the step; fewer than the batch size only in the last step of an epoch.
  int64_t rows = 0;
  bool ends_epoch = false;
};

class StepPlan {
 public:
  // All at least 1.
  StepPlan(int64_t samples, int64_t batch_size, int shards)
      : samples_(samples), batch_size_(batch_size), shards_(shards) {}

  int64_t steps_per_epoch() const { return (samples_ + batch_size_ - 1) / batch_size_; }

  StepPlace At(int64_t step) const {
    const int64_t per_epoch = steps_per_epoch();
    const int64_t in_epoch = step % per_epoch;
    const int64_t first = in_epoch * batch_size_;
    return {step / per_epoch, first, std::min(batch_size_, samples_ - first), in_epoch + 1 == per_epoch};
  }

  // The shard's rows of a step of `rows` rows; empty where the step has fewer rows than shards.
  RowRange ShardRows(int64_t rows, int shard) const {
    return {shard * rows / shards_, (shard + int64_t{1}) * rows / shards_};
  }

  int shards() const { return shards_; }
  int64_t max_shard_rows() const { return (std::min(batch_size_, samples_) + shards_ - 1) / shards_; }

 private:
  int64_t samples_;
  int64_t batch_size_;
  int shards_;
};

}  // namespace lockstep
