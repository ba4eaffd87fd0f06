// SPDX-License-Identifier: Apache-2.0
#include "worker/train/state_keeper.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/train/failure.h"

namespace lockstep {

namespace {

constexpr std::chrono::milliseconds kAckWait{2'000};
constexpr std::chrono::milliseconds kSaveRetry{200};

}  // namespace

StateKeeper::StateKeeper(KeeperOptions options, Device* device, Model* model, Optimizer* optimizer,
                         CoordinatorLink* link, const Clock* clock, Failpoints* failpoints)
    : options_(std::move(options)),
      device_(device),
      model_(model),
      optimizer_(optimizer),
      link_(link),
      clock_(clock),
      failpoints_(failpoints) {
  if (!options_.saves) return;
  saver_ = std::make_unique<CheckpointSaver>(
      options_.output_dir, options_.keep, options_.model_metadata, device_, model_, optimizer_, failpoints_,
      [this](int64_t step, const absl::StatusOr<SavedFile>& saved) { OnSaved(step, saved); });
}

StateKeeper::~StateKeeper() = default;

absl::StatusOr<TrainerState> StateKeeper::Restore() {
  if (options_.roll_back_step.has_value()) {
    if (absl::Status status = RestoreRollBack(); !status.ok()) return ResumeUnusable(std::move(status));
  }
  TrainerState trainer = options_.trainer;
  absl::Status restored;
  if (!options_.resume_snapshot.empty()) {
    restored = LoadSnapshot(options_.resume_snapshot, options_.first_step, *device_, *model_, *optimizer_, trainer);
  } else if (!options_.resume_checkpoint.empty()) {
    const absl::StatusOr<int64_t> step =
        LoadCheckpoint(options_.resume_checkpoint, *device_, *model_, *optimizer_, trainer);
    restored = step.status();
    if (step.ok() && *step != options_.first_step) {
      restored = absl::DataLossError(
          absl::StrCat(options_.resume_checkpoint, " is of step ", *step, ", not ", options_.first_step));
    }
  }
  if (!restored.ok()) return ResumeUnusable(restored);
  if (options_.saves && !options_.snapshot_path.empty()) {
    auto writer = SnapshotWriter::Create(options_.snapshot_path, device_, model_, optimizer_, trainer);
    if (writer.ok()) snapshots_ = std::move(*writer);
    if (!writer.ok()) {
      Warn(absl::StrCat("after a worker's death training goes on from a checkpoint: ", writer.status().message()));
    }
  }
  return trainer;
}

absl::Status StateKeeper::RestoreRollBack() {
  if (*options_.roll_back_step > 0) {
    const bool is_first = *options_.roll_back_step == options_.first_step && !options_.resume_checkpoint.empty();
    const std::string folder =
        is_first ? options_.resume_checkpoint : CheckpointFolder(options_.output_dir, *options_.roll_back_step);
    TrainerState unused = options_.trainer;
    LOCKSTEP_RETURN_IF_ERROR(LoadCheckpoint(folder, *device_, *model_, *optimizer_, unused).status());
  }
  MarkRollBack();
  return absl::OkStatus();
}

bool StateKeeper::Snapshot(int64_t step, const TrainerState& trainer, bool wait) {
  if (snapshots_ == nullptr) return false;
  int slot = FreeSlot();
  if (slot < 0 && wait) {
    link_->AwaitStored(std::ranges::max(slot_reports_), kAckWait);
    slot = FreeSlot();
  }
  if (slot < 0) return false;
  slot_ = slot;
  const auto began = clock_->Now();
  snapshots_->Write(slot_, step, trainer);
  snapshot_seconds_ = std::chrono::duration<double>(clock_->Now() - began).count();
  return true;
}

int StateKeeper::FreeSlot() {
  const int64_t stored = link_->acknowledged();
  int newest = -1;
  for (int i = 0; i < SnapshotWriter::kSlots; ++i) {
    const bool known = slot_reports_[i] > 0 && slot_reports_[i] <= stored;
    if (known && (newest < 0 || slot_reports_[i] > slot_reports_[newest])) newest = i;
  }
  for (int i = 0; i < SnapshotWriter::kSlots; ++i) {
    if (i != newest && slot_reports_[i] <= stored) return i;
  }
  // While the coordinator is away: what it cannot have heard of is replaced by something newer.
  for (int i = 0; i < SnapshotWriter::kSlots; ++i) {
    if (slot_reports_[i] > stored && link_->WithdrawSnapshot(slot_reports_[i])) return i;
  }
  return -1;
}

void StateKeeper::Save(int64_t step, const TrainerState& trainer, std::optional<double> score) {
  if (saver_ != nullptr) saver_->Save(step, options_.generation, trainer, score);
}

void StateKeeper::Flush() {
  if (saver_ == nullptr) return;
  link_->progress().phase.store(v1::Heartbeat::PHASE_CHECKPOINT);
  saver_->Flush();
}

absl::StatusOr<SavedFile> StateKeeper::SaveFinal(int64_t step) {
  link_->progress().phase.store(v1::Heartbeat::PHASE_CHECKPOINT);
  bool warned = false;
  while (true) {
    absl::StatusOr<SavedFile> saved = SaveModel(options_.output_dir, step, *device_, *model_, options_.model_metadata);
    if (saved.ok()) SaveFinalOnnx();
    if (saved.ok() || link_->stop_request() != StopRequest::kNone) return saved;
    if (!std::exchange(warned, true)) {
      Warn(absl::StrCat("the trained model could not be saved and is tried again: ", saved.status().message()));
    }
    link_->progress().Advance();
    std::this_thread::sleep_for(kSaveRetry);
  }
}

// For others: the job has its model without it too.
void StateKeeper::SaveFinalOnnx() {
  if (options_.model_plan == nullptr) return;
  const absl::Status saved =
      SaveOnnx(options_.output_dir, *options_.model_plan, *device_, *model_, options_.model_metadata);
  if (!saved.ok()) Warn(absl::StrCat("the trained model was saved, but not as ONNX: ", saved.message()));
}

void StateKeeper::MarkRollBack() {
  if (options_.roll_back_step.has_value()) roll_back_.Capture(*device_, *model_, *optimizer_);
}

void StateKeeper::RollBack() {
  device_->CopyFromHost(model_->parameters().data, roll_back_.parameters.data(), roll_back_.parameters.size());
  const auto tensors = optimizer_->State();
  for (size_t i = 0; i < tensors.size(); ++i) {
    // The best epoch so far stays the best.
    if (tensors[i].first == kBestWeights || tensors[i].second.data == nullptr) continue;
    device_->CopyFromHost(tensors[i].second.data, roll_back_.state[i].second.data(), roll_back_.state[i].second.size());
  }
}

void StateKeeper::OnSaved(int64_t step, const absl::StatusOr<SavedFile>& saved) {
  if (!saved.ok()) {
    Warn(absl::StrCat("the checkpoint of step ", step,
                      " could not be saved, training goes on: ", saved.status().message()));
    return;
  }
  v1::SessionRequest report;
  v1::CheckpointSaved& checkpoint = *report.mutable_checkpoint_saved();
  checkpoint.set_step(step);
  checkpoint.set_path(saved->path);
  checkpoint.set_parameters_sha256(saved->parameters_sha256);
  checkpoint.set_bytes(saved->bytes);
  link_->Report(std::move(report));
}

void StateKeeper::Warn(const std::string& message) {
  v1::SessionRequest report;
  report.mutable_warning()->set_message(message);
  report.mutable_warning()->set_kind(v1::WARNING_KIND_CHECKPOINT_FAILED);
  link_->Report(std::move(report));
}

}  // namespace lockstep
