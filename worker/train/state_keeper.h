// SPDX-License-Identifier: Apache-2.0
// StateKeeper: where the training state comes from and where it is kept. Snapshots in shared memory are
// for the next group on this machine, checkpoints on disk for everything worse.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/failpoints.h"
#include "worker/device/device.h"
#include "worker/nn/model.h"
#include "worker/optim/optimizer.h"
#include "worker/train/checkpoint.h"
#include "worker/train/checkpoint_saver.h"
#include "worker/train/coordinator_link.h"
#include "worker/train/snapshot.h"

namespace lockstep {

struct KeeperOptions {
  // Where the group starts. A snapshot is preferred; without either it starts from the initial weights.
  int64_t first_step = 0;
  std::string resume_snapshot;
  std::string resume_checkpoint;
  // True on the one rank that saves.
  bool saves = false;
  int64_t generation = 0;
  std::string output_dir;
  // Stored with the trained model and with checkpoints; see ModelMetadata.
  std::map<std::string, std::string> model_metadata;
  // Outlives the keeper. Null: the trained model is not written as ONNX.
  const ModelPlan* model_plan = nullptr;
  // The file of this group's snapshots; empty: none are made.
  std::string snapshot_path;
  KeepPolicy keep;
  // The trainer's state to start with; its lengths are those of every state that is kept.
  TrainerState trainer;
  // The step whose state RollBack goes back to, at first; nullopt: RollBack is never called.
  std::optional<int64_t> roll_back_step;
};

// Of the trainer's thread, which every rank has one of.
class StateKeeper {
 public:
  // All pointers outlive the keeper; `failpoints` may be null.
  StateKeeper(KeeperOptions options, Device* device, Model* model, Optimizer* optimizer, CoordinatorLink* link,
              const Clock* clock, Failpoints* failpoints);
  ~StateKeeper();

  // Fills in the state to start from, and returns the trainer's. Failures are marked ResumeUnusable.
  absl::StatusOr<TrainerState> Restore();

  // Keeps the state after `step` steps in shared memory. False where it did not: no memory, another
  // rank's business, or all that is there may be needed. `wait`: for some seconds, until it is not.
  bool Snapshot(int64_t step, const TrainerState& trainer, bool wait);
  // The report that tells the coordinator of the newest snapshot.
  void SnapshotReported(int64_t report) { slot_reports_[slot_] = report; }
  // What the newest snapshot cost.
  double snapshot_seconds() const { return snapshot_seconds_; }

  // Begins to write a checkpoint and returns; success and failure are reported from another thread.
  void Save(int64_t step, const TrainerState& trainer, std::optional<double> score);
  // Waits until all that was begun is written.
  void Flush();
  // Writes the trained model. Where the disk fails it says so once and tries again until it can, or
  // until the rank is to stop.
  absl::StatusOr<SavedFile> SaveFinal(int64_t step);

  // RollBack goes back to the state as it is now.
  void MarkRollBack();
  void RollBack();

 private:
  absl::Status RestoreRollBack();
  // A slot that no other group can be told to start from; -1: there is none.
  int FreeSlot();
  void OnSaved(int64_t step, const absl::StatusOr<SavedFile>& saved);
  void SaveFinalOnnx();
  void Warn(const std::string& message);

  const KeeperOptions options_;
  Device* const device_;
  Model* const model_;
  Optimizer* const optimizer_;
  CoordinatorLink* const link_;
  const Clock* const clock_;
  Failpoints* const failpoints_;
  std::unique_ptr<SnapshotWriter> snapshots_;
  // The report of each slot's snapshot, 0 for none; the slot written last.
  std::array<int64_t, SnapshotWriter::kSlots> slot_reports_{};
  int slot_ = 0;
  double snapshot_seconds_ = 0;
  std::unique_ptr<CheckpointSaver> saver_;
  // Only where the job rolls back.
  CheckpointImage roll_back_;
};

}  // namespace lockstep
