// SPDX-License-Identifier: Apache-2.0
// Checkpoints: a folder step-<N> with parameters.safetensors, optimizer.safetensors and a manifest
// that holds every file's SHA-256. It appears under its name only when it is complete and on disk.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/failpoints.h"
#include "worker/device/device.h"
#include "worker/nn/model.h"
#include "worker/optim/optimizer.h"
#include "worker/train/trainer_state.h"

namespace lockstep {

struct SavedFile {
  std::string path;
  std::string parameters_sha256;
  int64_t bytes = 0;
};

// The training state after `step` steps in host memory, so that it can be written while training goes on.
struct CheckpointImage {
  int64_t step = 0;
  int64_t generation = 0;
  std::vector<std::byte> parameters;
  // By name.
  std::vector<std::pair<std::string, std::vector<std::byte>>> state;
  TrainerState trainer;
  // How good the model is, greater is better, where it was just evaluated.
  std::optional<double> score;
  // Stored with the parameters; see ModelMetadata.
  std::map<std::string, std::string> metadata;

  // Copies; takes memory only the first time.
  void Capture(Device& device, Model& model, Optimizer& optimizer);
};

// Which checkpoints stay.
struct KeepPolicy {
  // The newest so many, and the one with the best score.
  int newest = 3;
};

// Saves the image under output_dir/checkpoints and removes the folders that need not be kept. Saving a
// step that is there already changes nothing (the bits are the same). RESOURCE_EXHAUSTED or UNAVAILABLE
// where the disk fails: what was there before stays. `views`: see Model. `failpoints` may be null.
absl::StatusOr<SavedFile> SaveCheckpoint(const std::string& output_dir, const CheckpointImage& image,
                                         const std::vector<ParameterView>& views, const KeepPolicy& keep,
                                         Failpoints* failpoints);

// The folder of the checkpoint after `step` steps.
std::string CheckpointFolder(const std::string& output_dir, int64_t step);

// Verifies every hash, then fills in the parameters, the optimizer's state and the trainer's, whose
// lengths are those of this job; returns the step. DATA_LOSS names the file that is damaged;
// INVALID_ARGUMENT where the tensors are not this model's.
absl::StatusOr<int64_t> LoadCheckpoint(const std::string& folder, Device& device, Model& model, Optimizer& optimizer,
                                       TrainerState& trainer);

// The trained model: output_dir/model.safetensors, one tensor per parameter, nothing else in it that
// depends on when or where it was trained. `metadata` is stored with it.
absl::StatusOr<SavedFile> SaveModel(const std::string& output_dir, int64_t step, Device& device, Model& model,
                                    const std::map<std::string, std::string>& metadata);

// The same as output_dir/model.onnx. INVALID_ARGUMENT where it is too large for that.
absl::Status SaveOnnx(const std::string& output_dir, const ModelPlan& plan, Device& device, Model& model,
                      const std::map<std::string, std::string>& metadata);

}  // namespace lockstep
