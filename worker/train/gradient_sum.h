// SPDX-License-Identifier: Apache-2.0
// GradientSum: the sum of a step's shard gradients, which a device writes and reads. Where they lie until they are
// added depends on whose memory that is; the bits do not.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/comm/buckets.h"
#include "worker/comm/communicator.h"
#include "worker/comm/reducer.h"
#include "worker/device/device.h"
#include "worker/nn/gradient_watcher.h"

namespace lockstep {

// What a reducer is made for.
struct ReducerNeeds {
  int shards = 1;
  int64_t elements = 0;
  int scalars = 0;
  // Where each layer's gradients lie.
  std::vector<GradientSpan> spans;
  // See Reduction in job.proto.
  bool fastest = false;
};
// Makes a reducer whose floats lie in the device's memory.
using DeviceReducerFactory = std::function<absl::StatusOr<std::unique_ptr<Reducer>>(const ReducerNeeds& needs)>;

// Of the trainer's thread. After an error only the destructor may follow.
class GradientSum {
 public:
  // The device adds by itself, and gradients never leave it: one rank, whose memory is not the host's.
  static bool StaysOnDevice(const Device& device, const Communicator& communicator);
  // For gradients of `elements` floats and `scalars` doubles of each of `shards` shards. `reducer`: of as many shards
  // and elements, but of none where StaysOnDevice; it adds the scalars then, and the device adds as the canonical tree.
  // Pointers outlive it. RESOURCE_EXHAUSTED where the device's memory is short.
  static absl::StatusOr<std::unique_ptr<GradientSum>> Create(Device* device, Communicator* communicator,
                                                             std::unique_ptr<Reducer> reducer, int shards,
                                                             int64_t elements, int scalars);
  // What `reducer` holds is the host's memory, which is the device's: gradients are written and added where they lie.
  static std::unique_ptr<GradientSum> InPlace(std::unique_ptr<Reducer> reducer);
  // The same in a device's own memory, where a layer's gradients may travel while backward goes on.
  static std::unique_ptr<GradientSum> Overlapped(std::unique_ptr<Reducer> reducer);
  virtual ~GradientSum() = default;

  // Where the device is to write the gradient of the next owned shard: kF32, flat. Shards are produced in order; Commit
  // after each.
  virtual Tensor shard_gradient() = 0;
  // What rides along, on the host; zeroed.
  virtual std::span<double> shard_scalars() = 0;
  virtual void Commit() = 0;
  // Whom backward of the next owned shard tells what it has written; null: nobody wants to know.
  virtual GradientWatcher* watcher() { return nullptr; }

  // After the last owned shard: sums over all ranks. A collective.
  virtual absl::Status Finish() = 0;
  // The gradient's sum, on the device: kF32, flat. Valid until the next shard, and may be changed.
  virtual Tensor sum() = 0;
  virtual std::span<const double> scalar_sums() const = 0;
  // See Reducer::finite.
  virtual std::optional<bool> finite() const = 0;

  // For steps that the device records; see Reducer::enqueued.
  virtual EnqueuedReducer* enqueued() = 0;
};

}  // namespace lockstep
