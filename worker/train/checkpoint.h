// SPDX-License-Identifier: Apache-2.0
// Checkpoints: a folder step-<N> with parameters.safetensors, optimizer.safetensors and a manifest
// that holds every file's SHA-256. It appears under its name only when it is complete and on disk.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/device/device.h"
#include "worker/nn/model.h"
#include "worker/optim/optimizer.h"
#include "worker/train/reporter.h"

namespace lockstep {

struct SavedFile {
  std::string path;
  std::string parameters_sha256;
  int64_t bytes = 0;
};

// Saves the state after `step` steps under output_dir/checkpoints and removes all but the newest two
// folders. Saving a step that is there already changes nothing (the bits are the same).
absl::StatusOr<SavedFile> SaveCheckpoint(const std::string& output_dir, int64_t step, Device& device, Model& model,
                                         Optimizer& optimizer, const Reporter::EpochSums& epoch_sums);

struct Restored {
  int64_t step = 0;
  Reporter::EpochSums epoch_sums;
};
// Verifies every hash, then fills in the parameters and the optimizer's state. DATA_LOSS names the
// file that is damaged; INVALID_ARGUMENT where the tensors are not this model's.
absl::StatusOr<Restored> LoadCheckpoint(const std::string& folder, Device& device, Model& model, Optimizer& optimizer);

// The trained model: output_dir/model.safetensors, one tensor per parameter, nothing else in it that
// depends on when or where it was trained.
absl::StatusOr<SavedFile> SaveModel(const std::string& output_dir, int64_t step, Device& device, Model& model);

}  // namespace lockstep
