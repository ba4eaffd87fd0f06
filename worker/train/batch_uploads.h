// SPDX-License-Identifier: Apache-2.0
// BatchUploads: brings batches that are made on the host to a device with memory of its own, the next one while the
// device works on this one.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/prefetcher.h"
#include "worker/device/device.h"
#include "worker/nn/model.h"

namespace lockstep {

// Of the device's thread.
class BatchUploads {
 public:
  // `device` outlives it. inputs, targets: of the largest batch. RESOURCE_EXHAUSTED where memory is short.
  static absl::StatusOr<std::unique_ptr<BatchUploads>> Create(Device* device, Tensor inputs, Tensor targets);

  // Host memory for batches, from which they are copied; freed with this object.
  absl::StatusOr<std::byte*> AllocateHost(size_t bytes);
  // The batch is on its way to where Take will find it, behind everything that the device was asked for until now.
  void Begin(const Prefetcher::Slot& from, int64_t rows);
  // True: a batch was begun and not taken.
  bool begun() const { return begun_; }
  // The batch that was begun; its memory is the device's until the next but one is begun.
  Batch Take();
  // Waits: what was copied from may be overwritten.
  void Finish();

 private:
  BatchUploads(Device* device, Tensor inputs, Tensor targets) : device_(device), inputs_(inputs), targets_(targets) {}

  Device* device_;
  Tensor inputs_, targets_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  // One is worked on, the other arrives.
  std::array<Batch, 2> batches_;
  size_t next_ = 0;
  bool begun_ = false;
};

}  // namespace lockstep
