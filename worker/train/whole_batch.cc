// SPDX-License-Identifier: Apache-2.0
#include "worker/train/whole_batch.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"

namespace lockstep {

absl::Status TreeShardSum::Sum(std::span<const double> shards, std::span<double> total) {
  std::unique_ptr<TreeReducer>& reducer = reducers_[total.size()];
  if (reducer == nullptr) {
    LOCKSTEP_ASSIGN_OR_RETURN(reducer, TreeReducer::Create(communicator_, shards_, 0, static_cast<int>(total.size())));
  }
  for (size_t at = 0; at < shards.size(); at += total.size()) {
    std::ranges::copy(shards.subspan(at, total.size()), reducer->shard_scalars().begin());
    reducer->CommitShard();
  }
  LOCKSTEP_RETURN_IF_ERROR(reducer->Finish());
  std::ranges::copy(reducer->scalar_sums(), total.begin());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<WholeBatch>> WholeBatch::Create(Device* device, Model* model, Communicator* communicator,
                                                               int shards, int owned) {
  std::unique_ptr<WholeBatch> whole(new WholeBatch(device, model, communicator, shards));
  whole->tasks_.resize(static_cast<size_t>(owned));
  whole->held_.resize(static_cast<size_t>(owned));
  for (ShardTask& task : whole->tasks_) {
    for (auto& [tensor, like] :
         {std::pair<Tensor*, Tensor>{&task.gradient, model->parameters()},
          std::pair<Tensor*, Tensor>{&task.stats, {nullptr, Shape{model->stats_width()}, DType::kF64}}}) {
      LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, device->Allocate(like.bytes()));
      *tensor = {buffer->data(), like.shape, like.type};
      whole->buffers_.push_back(std::move(buffer));
    }
  }
  return whole;
}

absl::Status WholeBatch::Hold(std::unique_ptr<Buffer>& buffer, Tensor from, Tensor& to) {
  if (buffer == nullptr || buffer->bytes() < from.bytes()) {
    LOCKSTEP_ASSIGN_OR_RETURN(buffer, device_->Allocate(from.bytes()));
  }
  to = {buffer->data(), from.shape, from.type};
  if (from.bytes() > 0) device_->Copy(from, to);
  return absl::OkStatus();
}

absl::Status WholeBatch::Add(const Batch& batch, int64_t first_row) {
  ShardTask& task = tasks_[added_];
  Held& held = held_[added_++];
  LOCKSTEP_RETURN_IF_ERROR(Hold(held.inputs, batch.inputs, task.batch.inputs));
  LOCKSTEP_RETURN_IF_ERROR(Hold(held.targets, batch.targets, task.batch.targets));
  task.batch.rows = batch.rows;
  task.first_row = first_row;
  return absl::OkStatus();
}

absl::Status WholeBatch::Compute(const StepContext& context, double scale) {
  added_ = 0;
  for (ShardTask& task : tasks_) device_->Fill(task.stats, 0);
  return model_->ForwardBackwardTogether(context, tasks_, scale, sum_);
}

}  // namespace lockstep
