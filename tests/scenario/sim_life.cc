// SPDX-License-Identifier: Apache-2.0
// How the simulated coordinator starts and dies, and what is checked of it all along.
#include <algorithm>

#include "tests/scenario/sim_coordinator.h"

namespace lockstep::sim {

SimGroup* SimCoordinator::FindGroup(const core::JobId& job, int64_t generation) {
  for (auto it = groups_.rbegin(); it != groups_.rend(); ++it) {
    if ((*it)->job() == job && (*it)->generation() == generation) return it->get();
  }
  return nullptr;
}

void SimCoordinator::ForgetMissing(core::Job& job) const {
  std::erase_if(job.checkpoints, [&](const auto& entry) { return !files_->checkpoints.contains(entry.second); });
  std::erase_if(job.snapshots, [&](const auto& entry) { return !files_->snapshots.contains({job.id, entry.second}); });
}

void SimCoordinator::Start() {
  up_ = true;
  woken_ = false;
  state_ = std::make_unique<core::State>(slots_);
  state_->Mark();
  world_->Note("coordinator starts", "", incarnation_, 0);
  Round round;
  const Input none;
  std::vector<const JobRow*> live;
  for (const auto& [id, row] : store_->rows()) {
    last_order_ = std::max(last_order_, row.order);
    if (!core::IsEnded(row.state)) live.push_back(&row);
  }
  std::sort(live.begin(), live.end(), [](const JobRow* a, const JobRow* b) { return a->order < b->order; });
  std::vector<std::pair<core::JobId, int64_t>> active;
  for (const JobRow* row : live) {
    core::Job job = store_->Load(*row);
    ForgetMissing(job);
    sequences_[job.id] = row->last_sequence;
    if (core::IsActive(job.state)) active.emplace_back(job.id, job.generation);
    for (const core::Effect& effect : core::Apply(*state_, core::JobRecovered{std::move(job)}, limits_).effects) {
      Stage(effect, none, round);
    }
  }
  for (const auto& [id, generation] : active) {
    if (SimGroup* group = FindGroup(id, generation)) {
      group->Adopt();
    } else {
      // It was stored but never launched.
      Tell(core::GroupExited{id, generation, {.reported = false}});
    }
  }
  for (const core::Effect& effect : core::StartQueued(*state_, limits_).effects) Stage(effect, none, round);
  if (world_->now() < store_fails_until_) return Crash();
  Write(round);
  if (Act(round)) CheckState();
}

void SimCoordinator::Crash() {
  if (!up_) return;
  world_->Note("coordinator dies", "", incarnation_, 0);
  up_ = false;
  crash_in_round_ = false;
  ++incarnation_;
  inbox_.clear();
  sessions_.clear();
  sequences_.clear();
  last_order_ = 0;
  state_.reset();
  for (const auto& group : groups_) {
    if (!group->over()) group->CoordinatorGone();
  }
  world_->After(restart_delay_, [this] { Start(); });
}

// After each round.
void SimCoordinator::CheckState() {
  if (state_->draining()) return;
  const core::Job* first = state_->FirstQueued();
  if (first != nullptr && std::min(first->shape.workers, state_->slots()) <= state_->free_slots()) {
    world_->Fail(absl::StrCat(first->id, " waits though it fits"));
  }
  // Where nothing is on its way, every group has the size that it should have.
  const core::Job* wrong = nullptr;
  for (const int64_t order : state_->active()) {
    const core::Job& job = state_->jobs().at(order);
    const bool moving = job.state != core::JobState::kRunning || job.rescaling || job.cancel_requested ||
                        !job.failure.empty() || job.exit.has_value();
    if (moving) return;
    const bool more = job.group_size() < job.shape.workers && first == nullptr && state_->free_slots() > 0;
    if (job.group_size() > job.shape.workers || more || state_->free_slots() < 0) wrong = &job;
  }
  if (wrong != nullptr) {
    world_->Fail(absl::StrCat(wrong->id, " has ", wrong->group_size(), " of ", wrong->shape.workers, " workers, ",
                              state_->free_slots(), " slots are free, and nothing happens"));
  }
}

// The generation is durable, begins where the ledger ends from a state that is in it, and is alone.
void SimCoordinator::CheckLaunch(const core::Launch& launch) {
  const JobRow& row = *store_->Find(launch.job);
  if (row.generation != launch.generation) world_->Fail("a generation is launched that is not stored");
  if (row.Committed() != launch.resume.step) world_->Fail("a launch does not begin where the ledger ends");
  if (state_->free_slots() < 0) world_->Fail("a launch overdraws the slots");
  bool known = launch.resume.step == 0 && launch.resume.path.empty() && launch.resume.snapshot_generation == 0;
  for (const LedgerRow& entry : row.ledger) {
    known |= !entry.voided && entry.snapshot && entry.end_step == launch.resume.step &&
             entry.generation == launch.resume.snapshot_generation;
  }
  for (const CheckpointRow& checkpoint : row.checkpoints) {
    known |= !checkpoint.voided && !checkpoint.final && checkpoint.path == launch.resume.path &&
             checkpoint.step == launch.resume.step;
  }
  if (!known) world_->Fail("a launch begins from a state that does not count");
  int used = launch.shape.workers;
  for (const auto& group : groups_) {
    if (group->over()) continue;
    used += group->size();
    if (group->job() == launch.job) world_->Fail(absl::StrCat(launch.job, " is launched while its last group lives"));
  }
  if (used > state_->slots()) world_->Fail(absl::StrCat(used, " workers live in ", state_->slots(), " slots"));
}

void SimCoordinator::CheckAck(const core::SendAck& ack) {
  const JobRow* row = store_->Find(ack.job);
  const auto it = row->ranks.find(ack.rank);
  if (it == row->ranks.end() || it->second.generation != ack.generation || it->second.state.last_report < ack.report) {
    world_->Fail(absl::StrCat("report ", ack.report, " of ", ack.job, " is acknowledged but not stored"));
  }
}

}  // namespace lockstep::sim
