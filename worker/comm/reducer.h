// SPDX-License-Identifier: Apache-2.0
// Reducer: the sum of a step's shard gradients over all ranks, and of some numbers that ride along. How they are added
// is the job's `training.reduction`: tree_reduce.h or fastest_reduce.h.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"

namespace lockstep {

// Of one thread. After an error of any call only the destructor may follow.
class Reducer {
 public:
  virtual ~Reducer() = default;

  // Where the gradient of the next owned shard (OwnedShards) is to be written: floats on a 64-byte boundary, and
  // doubles (zeroed). Shards are produced in order, first to last; call CommitShard after each.
  virtual std::span<float> shard_gradient() = 0;
  virtual std::span<double> shard_scalars() = 0;
  virtual void CommitShard() = 0;

  // After the last owned shard: sums over all ranks, the same on each of them. The spans hold the sums until the next
  // step, and may be changed: no other rank sees it.
  virtual absl::Status Finish() = 0;
  virtual std::span<float> sum() = 0;
  virtual std::span<const double> scalar_sums() const = 0;
  // No infinity or NaN is in the gradient's sum, on any rank; the same everywhere. Nothing: there was nothing to be
  // added (one rank and one shard), so nobody has looked.
  virtual std::optional<bool> finite() const = 0;
};

}  // namespace lockstep
