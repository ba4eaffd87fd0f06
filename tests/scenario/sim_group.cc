// SPDX-License-Identifier: Apache-2.0
#include "tests/scenario/sim_group.h"

#include <algorithm>
#include <utility>

namespace lockstep::sim {

std::string DigestOf(uint64_t bits) { return absl::StrCat(absl::Hex(bits & 0xffffffffffff)); }

SimGroup::SimGroup(World* world, Receiver* receiver, Files* files, const Plan* plan, const core::Launch& launch)
    : world_(world), receiver_(receiver), files_(files), plan_(plan), launch_(launch) {
  workers_.resize(size());
  for (int rank = 0; rank < size(); ++rank) {
    world_->After(world_->Between(20, 120), [this, rank] { Connect(rank); });
  }
  Adopt();
}

core::FromWorker SimGroup::From(int rank) const { return {job(), generation(), rank}; }

void SimGroup::Adopt() {
  incarnation_ = receiver_->incarnation();
  if (over_) TellExit();
}

void SimGroup::TellExit() {
  world_->After(world_->Between(2, 40), [this, incarnation = incarnation_] {
    if (!receiver_->up() || receiver_->incarnation() != incarnation) return;
    receiver_->Tell(core::GroupExited{job(), generation(), exit_});
  });
}

void SimGroup::Kill() {
  world_->After(world_->Between(1, 15), [this] { End({.exit_code = 137, .killed = true}); });
}

void SimGroup::KillRank(int rank) {
  Worker& worker = workers_[rank];
  if (over_ || !worker.alive) return;
  worker.alive = false;
  Drop(rank, world_->Chance(300));
  // mpirun looks once a second.
  world_->After(1000, [this] { End({.exit_code = 137}); });
}

void SimGroup::Exit(int rank, int code) {
  Worker& worker = workers_[rank];
  if (over_ || !worker.alive) return;
  if (worker.hung) return worker.pending.push_back([this, rank, code] { Exit(rank, code); });
  worker.alive = false;
  exit_code_ = std::max(exit_code_, code);
  Drop(rank, true);
  const auto alive = [](const Worker& one) { return one.alive; };
  if (std::none_of(workers_.begin(), workers_.end(), alive)) {
    world_->After(world_->Between(5, 30), [this] { End({.exit_code = exit_code_}); });
  } else if (exit_code_ != 0) {
    world_->After(1000, [this] { End({.exit_code = exit_code_}); });
  }
}

void SimGroup::End(core::GroupExit exit) {
  if (over_) return;
  for (int rank = 0; rank < size(); ++rank) {
    workers_[rank].alive = false;
    Drop(rank, world_->Chance(300));
  }
  over_ = true;
  exit_ = exit;
  TellExit();
}

void SimGroup::Hang(int rank, int64_t milliseconds) {
  if (over_ || !workers_[rank].alive || workers_[rank].hung) return;
  workers_[rank].hung = true;
  world_->After(milliseconds, [this, rank] {
    Worker& worker = workers_[rank];
    worker.hung = false;
    if (over_ || !worker.alive) return;
    for (auto& what : std::exchange(worker.pending, {})) what();
    Poke();
  });
}

void SimGroup::Partition(int rank, int64_t milliseconds) {
  workers_[rank].reachable_at = world_->now() + milliseconds;
  Break(rank, false);
}

void SimGroup::Terminate(int rank) {
  workers_[rank].stop = true;
  workers_[rank].stop_checkpoint = true;
}

void SimGroup::FailRank(int rank, bool permanent) {
  if (over_ || !workers_[rank].alive || workers_[rank].closing || !workers_[rank].welcomed) return;
  core::GoodbyeSaid goodbye;
  goodbye.farewell = core::Farewell::kFailed;
  goodbye.message = "out of luck";
  goodbye.permanent = permanent;
  Goodbye(rank, goodbye);
}

bool SimGroup::Corrupt(int rank) {
  if (over_ || size() < 2 || stage_ != Stage::kTraining || step_ >= plan_->end_step()) return false;
  // Never the same twice: two equal ones would make the ranks agree again.
  contamination_ = Mix(workers_[rank].bits, static_cast<uint64_t>(world_->now()));
  workers_[rank].bits ^= contamination_;
  return true;
}

void SimGroup::Later(int64_t milliseconds) {
  world_->After(milliseconds, [this] { Go(); });
}

void SimGroup::Poke() {
  if (std::exchange(waiting_, false)) Later(1);
}

void SimGroup::Go() {
  if (over_ || stage_ == Stage::kClosing) return;
  for (const Worker& worker : workers_) {
    if (worker.alive && !worker.hung && !worker.closing && !deadlocked_) continue;
    waiting_ = true;
    return;
  }
  if (stage_ == Stage::kLoading) return Load();
  Step();
}

void SimGroup::Load() {
  const core::ResumePoint& from = workers_[0].resume;
  for (const Worker& worker : workers_) {
    if (worker.resume.step != from.step || worker.resume.path != from.path) world_->Fail("ranks start apart");
  }
  SavedState state{from.step, plan_->bits[0], from.step != 0};
  if (from.snapshot_generation != 0) {
    state.damaged = true;
    const auto found = files_->snapshots.find({job(), from.snapshot_generation});
    for (const SavedState& slot : found == files_->snapshots.end() ? std::array<SavedState, 2>() : found->second) {
      if (slot.step == from.step && !slot.damaged) state = slot;
    }
  } else if (!from.path.empty()) {
    const auto found = files_->checkpoints.find(from.path);
    state = found == files_->checkpoints.end() ? SavedState{from.step, 0, true} : found->second;
  } else if (from.step != 0) {
    return world_->Fail(absl::StrCat(job(), " begins at step ", from.step, " from nothing"));
  }
  for (int rank = 0; rank < size() && state.damaged; ++rank) {
    core::GoodbyeSaid goodbye;
    goodbye.farewell = core::Farewell::kFailed;
    goodbye.message = "cannot be loaded";
    goodbye.resume_unusable = true;
    Goodbye(rank, goodbye);
  }
  if (state.damaged) return;
  world_->Note("begins", job(), generation(), 0, from.step, from.snapshot_generation);
  step_ = committed_ = from.step;
  for (Worker& worker : workers_) {
    worker.bits = state.bits;
    worker.phase = core::Phase::kStep;
  }
  stage_ = Stage::kTraining;
  // Its evaluation may have died with the last group.
  if (step_ > 0 && step_ % plan_->submit.shape.steps_per_epoch == 0) ReportEpoch();
  ++progress_;
  Later(1);
}

void SimGroup::Step() {
  const int64_t total = plan_->submit.shape.total_steps;
  if (step_ >= plan_->end_step()) return Finish(core::Farewell::kSucceeded);
  const auto stops = [](const Worker& worker) { return worker.stop; };
  if (std::any_of(workers_.begin(), workers_.end(), stops)) return Finish(core::Farewell::kStopped);
  bool leased = true;
  for (int rank = 0; rank < size(); ++rank) {
    Worker& worker = workers_[rank];
    if (step_ >= worker.ask_at && worker.leased_end < total) AskLease(rank);
    if (step_ < worker.leased_end) continue;
    worker.phase = core::Phase::kLease;
    leased = false;
  }
  if (!leased) {
    waiting_ = true;
    return;
  }
  for (Worker& worker : workers_) {
    worker.bits = Mix(worker.bits ^ contamination_, plan_->seed + static_cast<uint64_t>(step_));
  }
  ++step_;
  ++progress_;
  AfterStep();
  Later(plan_->step_ms);
}

void SimGroup::AfterStep() {
  const core::JobShape& shape = plan_->submit.shape;
  if (step_ % plan_->digest_every == 0 || step_ == plan_->end_step()) {
    for (Worker& worker : workers_) worker.digests.emplace_back(step_, DigestOf(worker.bits));
  }
  const bool epoch = step_ % shape.steps_per_epoch == 0;
  if (step_ - committed_ >= plan_->commit_every || step_ == shape.total_steps || epoch) Commit();
  if (epoch) ReportEpoch();
  if (step_ % plan_->checkpoint_every == 0) {
    world_->After(world_->Between(5, 150), [this, step = step_, bits = workers_[0].bits] {
      if (!over_ && workers_[0].alive && !workers_[0].closing && !workers_[0].hung) SaveCheckpoint(step, bits);
    });
  }
}

void SimGroup::ReportEpoch() {
  core::EpochReported reported;
  reported.epoch = step_ / plan_->submit.shape.steps_per_epoch;
  reported.step = step_;
  reported.stopped_early = step_ == plan_->stop_step;
  Report(0, reported);
}

void SimGroup::Commit() {
  if (step_ == committed_) return;
  core::StepsReported steps;
  steps.first_step = committed_;
  steps.end_step = step_;
  // The slot that is overwritten must not be the newest that the coordinator knows of.
  steps.snapshot = snapshot_reports_[1 - slot_] <= workers_[0].acknowledged;
  steps.digests = std::exchange(workers_[0].digests, {});
  if (steps.snapshot) {
    files_->snapshots[{job(), generation()}][slot_] = {step_, workers_[0].bits, false};
    snapshot_reports_[slot_] = workers_[0].last_report + 1;
    slot_ = 1 - slot_;
  }
  committed_ = step_;
  Report(0, std::move(steps));
  for (int rank = 1; rank < size(); ++rank) {
    if (workers_[rank].digests.empty()) continue;
    core::DigestReported digests;
    digests.digests = std::exchange(workers_[rank].digests, {});
    Report(rank, std::move(digests));
  }
}

void SimGroup::SaveCheckpoint(int64_t step, uint64_t bits) {
  core::CheckpointReported saved;
  saved.step = step;
  saved.path = absl::StrCat(job(), "g", generation(), "s", step);
  files_->checkpoints[saved.path] = {step, bits, false};
  auto& kept = files_->kept[job()];
  kept.push_back(saved.path);
  if (kept.size() > 3) {
    files_->checkpoints.erase(kept.front());
    kept.pop_front();
  }
  Report(0, std::move(saved));
}

void SimGroup::Finish(core::Farewell farewell) {
  Commit();
  stage_ = Stage::kClosing;
  const auto asked = [](const Worker& worker) { return worker.stop_checkpoint; };
  const bool save = farewell == core::Farewell::kSucceeded || std::any_of(workers_.begin(), workers_.end(), asked);
  for (Worker& worker : workers_) worker.phase = core::Phase::kCheckpoint;
  ++progress_;
  world_->After(save ? world_->Between(20, 200) : 1, [this, farewell, save] {
    const auto there = [](const Worker& worker) { return worker.alive && !worker.closing; };
    if (over_ || !std::all_of(workers_.begin(), workers_.end(), there)) return;
    if (save && farewell == core::Farewell::kStopped) SaveCheckpoint(step_, workers_[0].bits);
    if (farewell == core::Farewell::kSucceeded) {
      core::CheckpointReported saved;
      saved.step = step_;
      saved.path = absl::StrCat(job(), "g", generation(), "final");
      saved.final = true;
      files_->checkpoints[saved.path] = {step_, workers_[0].bits, false};
      Report(0, std::move(saved));
    }
    SayGoodbye(farewell);
  });
}

void SimGroup::SayGoodbye(core::Farewell farewell) {
  for (int rank = 0; rank < size(); ++rank) {
    core::GoodbyeSaid goodbye;
    goodbye.farewell = farewell;
    goodbye.step = step_;
    Goodbye(rank, goodbye);
  }
}

void SimGroup::Goodbye(int rank, core::GoodbyeSaid goodbye) {
  const int code = goodbye.farewell == core::Farewell::kFailed ? 1 : 0;
  Report(rank, std::move(goodbye));
  workers_[rank].closing = true;
  if (code != 0) exit_code_ = code;
  world_->After(plan_->close_ms, [this, rank] { Exit(rank, 1); });
}

}  // namespace lockstep::sim
