// SPDX-License-Identifier: Apache-2.0
// Whole batch: a rank's shards of a step at once, for models with layers that normalise over the whole
// batch (Model::needs_whole_batch).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"
#include "worker/comm/tree_reduce.h"
#include "worker/nn/model.h"

namespace lockstep {

// ShardSum over the communicator: one tree for each width.
class TreeShardSum final : public ShardSum {
 public:
  // `communicator` outlives this. `shards`: V.
  TreeShardSum(Communicator* communicator, int shards) : communicator_(communicator), shards_(shards) {}
  absl::Status Sum(std::span<const double> shards, std::span<double> total) override;

 private:
  Communicator* communicator_;
  int shards_;
  // Made when a width is first asked for, in the first step.
  std::map<size_t, std::unique_ptr<TreeReducer>> reducers_;
};

// The memory of the shards: batches, gradients and sums of each. Of the trainer's thread.
class WholeBatch {
 public:
  // `owned`: this rank's shards; `model` needs the whole batch. All pointers outlive this.
  static absl::StatusOr<std::unique_ptr<WholeBatch>> Create(Device* device, Model* model, Communicator* communicator,
                                                            int shards, int owned);

  // Copies the batch, which may be overwritten afterwards. Shards are added in order.
  absl::Status Add(const Batch& batch, int64_t first_row);
  // All owned shards were added: forward and backward. Then forgets them; tasks() stays valid.
  absl::Status Compute(const StepContext& context, double scale);
  // Gradient and sums of each shard.
  std::span<const ShardTask> tasks() const { return tasks_; }

 private:
  WholeBatch(Device* device, Model* model, Communicator* communicator, int shards)
      : device_(device), model_(model), sum_(communicator, shards) {}
  // Memory of at least the tensor's size, kept for the shard.
  absl::Status Hold(std::unique_ptr<Buffer>& buffer, Tensor from, Tensor& to);

  Device* device_;
  Model* model_;
  TreeShardSum sum_;
  std::vector<ShardTask> tasks_;
  size_t added_ = 0;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  struct Held {
    std::unique_ptr<Buffer> inputs, targets;
  };
  std::vector<Held> held_;
};

}  // namespace lockstep
