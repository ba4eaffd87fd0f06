// SPDX-License-Identifier: Apache-2.0
// CheckpointSaver: writes checkpoints while training goes on.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "worker/train/checkpoint.h"

namespace lockstep {

class CheckpointSaver {
 public:
  // Called on the saver's thread for each checkpoint: what was saved, or why not.
  using OnDone = std::function<void(int64_t step, const absl::StatusOr<SavedFile>& saved)>;

  // All pointers outlive the saver; `failpoints` may be null.
  // `metadata`: see CheckpointImage.
  CheckpointSaver(std::string output_dir, KeepPolicy keep, std::map<std::string, std::string> metadata, Device* device,
                  Model* model, Optimizer* optimizer, Failpoints* failpoints, OnDone on_done);
  // Waits for what is being written.
  ~CheckpointSaver();

  // Copies the state after `step` steps and returns; waits first where an earlier one is being written.
  void Save(int64_t step, int64_t generation, const TrainerState& trainer, std::optional<double> score);
  // Waits until nothing is being written.
  void Flush();

 private:
  void Run();

  const std::string output_dir_;
  const KeepPolicy keep_;
  Device* const device_;
  Model* const model_;
  Optimizer* const optimizer_;
  Failpoints* const failpoints_;
  const OnDone on_done_;
  CheckpointImage image_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool busy_ = false;
  bool quit_ = false;
  std::thread thread_;
};

}  // namespace lockstep
