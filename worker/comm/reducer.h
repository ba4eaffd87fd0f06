// SPDX-License-Identifier: Apache-2.0
// Reducer: the sum of a step's shard gradients over all ranks, and of some numbers that ride along. How they are added
// is the job's `training.reduction`: tree_reduce.h or fastest_reduce.h.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lockstep {

// The same sum where all of it lies in a device's memory and is only enqueued, nothing waits: for steps that the device
// records. Shards and errors: as for Reducer.
class EnqueuedReducer {
 public:
  virtual ~EnqueuedReducer() = default;
  // Where the next owned shard is to be written: floats, and doubles that are not zeroed. The same addresses in every
  // step.
  virtual float* shard_gradient() const = 0;
  virtual double* shard_scalars() const = 0;
  virtual absl::Status CommitShard() = 0;
  virtual absl::Status Finish() = 0;
  // The sums, until the next step's first shard is written. Both may be changed. Where there is one shard its scalars
  // are the sums, in the same place.
  virtual float* sum() const = 0;
  virtual const double* scalar_sums() const = 0;
  // 0: there is neither an infinity nor a NaN in the sum, on any rank. Null: nobody has looked.
  virtual const double* not_finite() const = 0;
  // Waits until `reached` says so, or until another rank cannot be waited for: then what it gave up by. Returns at once
  // where there are no others.
  virtual absl::Status Await(const std::function<absl::StatusOr<bool>()>& reached) = 0;
  // `release` destroys all that was recorded of this reducer's work; called before a sum is given up by itself. Null:
  // there is nothing any more.
  virtual void set_release(std::function<void()> release) = 0;
};

// Of one thread. After an error of any call only the destructor may follow.
class Reducer {
 public:
  virtual ~Reducer() = default;

  // Where the gradient of the next owned shard (OwnedShards) is to be written: floats on a 64-byte boundary, and
  // doubles (zeroed). Shards are produced in order, first to last; call CommitShard after each.
  virtual std::span<float> shard_gradient() = 0;
  virtual std::span<double> shard_scalars() = 0;
  virtual void CommitShard() = 0;
  // Before CommitShard, of a shard whose gradient a device is still being asked to write: all of the layer and of those
  // behind it is enqueued. Optional; may be used to begin with the sum.
  virtual void LayersDone(int /*layer*/) {}

  // After the last owned shard: sums over all ranks, the same on each of them. The spans hold the sums until the next
  // step, and may be changed: no other rank sees it.
  virtual absl::Status Finish() = 0;
  virtual std::span<float> sum() = 0;
  virtual std::span<const double> scalar_sums() const = 0;
  // No infinity or NaN is in the gradient's sum, on any rank; the same everywhere. Nothing: there was nothing to be
  // added (one rank and one shard), so nobody has looked.
  virtual std::optional<bool> finite() const = 0;

  // The same without the host, between the same steps on all ranks; null: there is no such way.
  virtual EnqueuedReducer* enqueued() { return nullptr; }
};

}  // namespace lockstep
