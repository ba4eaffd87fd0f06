// SPDX-License-Identifier: Apache-2.0
#include "worker/train/batch_uploads.h"

#include <utility>

#include "common/status_macros.h"
#include "worker/device/uploads.h"
#include "worker/train/first_rows.h"

namespace lockstep {

absl::StatusOr<std::unique_ptr<BatchUploads>> BatchUploads::Create(Device* device, Tensor inputs, Tensor targets) {
  std::unique_ptr<BatchUploads> uploads(new BatchUploads(device, inputs, targets));
  for (Batch& batch : uploads->batches_) {
    for (const auto& [like, to] : {std::pair{inputs, &batch.inputs}, std::pair{targets, &batch.targets}}) {
      LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, device->Allocate(like.bytes()));
      *to = like;
      to->data = buffer->data();
      uploads->buffers_.push_back(std::move(buffer));
    }
  }
  return uploads;
}

absl::StatusOr<std::byte*> BatchUploads::AllocateHost(size_t bytes) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, device_->uploads()->AllocateHost(bytes));
  buffers_.push_back(std::move(buffer));
  return static_cast<std::byte*>(buffers_.back()->data());
}

void BatchUploads::Begin(const Prefetcher::Slot& from, int64_t rows) {
  Batch& batch = batches_[next_];
  batch.inputs = FirstRows({batch.inputs.data, inputs_.shape, inputs_.type}, rows);
  batch.targets = FirstRows({batch.targets.data, targets_.shape, targets_.type}, rows);
  batch.rows = rows;
  device_->uploads()->Begin(batch.inputs.data, from.features, batch.inputs.bytes());
  device_->uploads()->Begin(batch.targets.data, from.targets, batch.targets.bytes());
  begun_ = true;
}

Batch BatchUploads::Take() {
  device_->uploads()->Join();
  begun_ = false;
  return batches_[std::exchange(next_, 1 - next_)];
}

void BatchUploads::Finish() { device_->uploads()->Finish(); }

}  // namespace lockstep
