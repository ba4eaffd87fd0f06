// SPDX-License-Identifier: Apache-2.0
// Snapshots: the training state in a file of shared memory that outlives the worker group. A slot is marked
// valid only when it is complete, and of several one is never touched, so a whole state is always there.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/device/device.h"
#include "worker/nn/model.h"
#include "worker/optim/optimizer.h"
#include "worker/train/checkpoint.h"

namespace lockstep {

class SnapshotWriter {
 public:
  // One that the coordinator would start from, one that it may or may not know of, one to write to.
  static constexpr int kSlots = 3;

  // Makes the file; it must not exist. RESOURCE_EXHAUSTED where shared memory is short. Model and
  // optimizer outlive the writer; `trainer` has the lengths of every state that will be written.
  static absl::StatusOr<std::unique_ptr<SnapshotWriter>> Create(const std::string& path, Device* device, Model* model,
                                                                Optimizer* optimizer, const TrainerState& trainer);
  virtual ~SnapshotWriter() = default;
  // Overwrites a slot with the state after `step` steps.
  virtual void Write(int index, int64_t step, const TrainerState& trainer) = 0;
};

// Fills in the state after exactly `step` steps. NOT_FOUND or DATA_LOSS where it is not there whole.
absl::Status LoadSnapshot(const std::string& path, int64_t step, Device& device, Model& model, Optimizer& optimizer,
                          TrainerState& trainer);

}  // namespace lockstep
