// SPDX-License-Identifier: Apache-2.0
// TrainerState: what goes on from step to step besides the parameters and the optimizer's state. It is
// part of every checkpoint and snapshot, so that a job that was resumed decides and reports the same.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"

namespace lockstep {

struct TrainerState {
  // Sums over the epoch so far, in step order; see Objective. The length is the job's.
  std::vector<double> sums;
  // Rows and steps of the epoch so far; steps that were not applied count as steps without rows.
  int64_t rows = 0;
  int64_t steps = 0;
  // What else the trainer carries, across epochs too: whoever makes the state fixes its length.
  std::vector<double> extra;

  // A new epoch begins. Takes no memory.
  void BeginEpoch() {
    std::ranges::fill(sums, 0.0);
    rows = steps = 0;
  }

  // {rows, steps, sums, extra} as one array.
  size_t packed_size() const { return 2 + sums.size() + extra.size(); }
  void Pack(std::span<double> to) const;
  // INVALID_ARGUMENT where the length is not this state's: made by a job with other metrics.
  absl::Status Unpack(std::span<const double> from);
};

}  // namespace lockstep
