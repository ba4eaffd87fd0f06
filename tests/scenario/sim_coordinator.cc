// SPDX-License-Identifier: Apache-2.0
#include "tests/scenario/sim_coordinator.h"

#include <algorithm>
#include <iterator>
#include <type_traits>

namespace lockstep::sim {
namespace {

const core::FromWorker* WorkerOf(const core::Event& event) {
  return std::visit(
      [](const auto& e) -> const core::FromWorker* {
        if constexpr (std::is_base_of_v<core::FromWorker, std::decay_t<decltype(e)>>) return &e;
        return nullptr;
      },
      event);
}

bool IsFromPeople(const core::Event& event) {
  return std::holds_alternative<core::JobSubmitted>(event) || std::holds_alternative<core::CancelAsked>(event) ||
         std::holds_alternative<core::ScaleAsked>(event) || std::holds_alternative<core::ResumeAsked>(event);
}

}  // namespace

SimCoordinator::SimCoordinator(World* world, SimStore* store, Files* files, const std::map<core::JobId, Plan>* plans,
                               int slots)
    : world_(world), store_(store), files_(files), plans_(plans), slots_(slots) {
  limits_.startup = std::chrono::milliseconds(12'000);
  limits_.startup_ticks = 24;
  limits_.checkpoint_ticks = 20;
}

void SimCoordinator::Post(Input input) {
  if (!up_) return;
  inbox_.push_back(std::move(input));
  Wake(world_->Between(0, 2));
}

void SimCoordinator::Wake(int64_t milliseconds) {
  if (woken_) return;
  woken_ = true;
  world_->After(milliseconds, [this, incarnation = incarnation_] {
    if (incarnation != incarnation_ || !up_) return;
    woken_ = false;
    Work();
  });
}

void SimCoordinator::Work() {
  if (world_->now() < paused_until_) return Wake(paused_until_ - world_->now());
  std::vector<Input> inputs;
  const size_t count = std::min<size_t>(inbox_.size(), 1 + world_->Below(6));
  std::move(inbox_.begin(), inbox_.begin() + count, std::back_inserter(inputs));
  inbox_.erase(inbox_.begin(), inbox_.begin() + count);
  const int incarnation = incarnation_;
  if (!inputs.empty()) Process(std::move(inputs));
  if (up_ && incarnation == incarnation_ && !inbox_.empty()) Wake(world_->Between(0, 2));
}

void SimCoordinator::Process(std::vector<Input> inputs) {
  Round round;
  state_->Mark();
  const int64_t last_order = last_order_;
  std::vector<absl::Status> statuses;
  std::vector<bool> expected;
  for (Input& input : inputs) {
    const core::FromWorker* from = WorkerOf(input.event);
    expected.push_back(from == nullptr || MayRefuse(*from));
    statuses.push_back(Accept(input, round));
  }
  if (crash_in_round_ && world_->Chance(500)) return Crash();
  if (!round.changes.empty() && world_->now() < store_fails_until_) {
    ++rollbacks_;
    state_->Rollback();
    for (const auto& [job, sequence] : round.undo_sequences) sequences_[job] = sequence;
    last_order_ = last_order;
    return Refuse(std::move(inputs));
  }
  Write(round);
  if (!Act(round)) return;
  for (size_t i = 0; i < inputs.size(); ++i) Answered(inputs[i], statuses[i], expected[i]);
  CheckState();
}

absl::Status SimCoordinator::Accept(Input& input, Round& round) {
  if (auto* submitted = std::get_if<core::JobSubmitted>(&input.event)) {
    // As by its request id: a client that tries again means the same job.
    if (store_->Find(submitted->job) != nullptr || round.dirty.contains(submitted->job)) return absl::OkStatus();
    submitted->order = ++last_order_;
  } else if (auto* resume = std::get_if<core::ResumeAsked>(&input.event)) {
    const JobRow* row = store_->Find(resume->job.id);
    if (row == nullptr) return absl::NotFoundError("no job");
    if (state_->Find(resume->job.id) == nullptr) {
      resume->job = store_->Load(*row);
      ForgetMissing(resume->job);
      sequences_[row->id] = row->last_sequence;
    }
  }
  const core::Outcome outcome = core::Apply(*state_, input.event, limits_);
  if (!outcome.status.ok() && !outcome.effects.empty()) world_->Fail("a refused event has effects");
  for (const core::Effect& effect : outcome.effects) Stage(effect, input, round);
  if (const auto* ended = std::get_if<core::SessionEnded>(&input.event)) {
    const auto it = sessions_.find({ended->job, ended->generation, ended->rank});
    if (it != sessions_.end() && it->second == input.stream) sessions_.erase(it);
  }
  return outcome.status;
}

void SimCoordinator::Answered(Input& input, const absl::Status& status, bool expected) {
  if (input.answer) input.answer(status);
  Stream* stream = input.stream;
  if (stream == nullptr || std::holds_alternative<core::SessionEnded>(input.event)) return;
  if (status.ok()) {
    if (!std::holds_alternative<core::HelloSaid>(input.event)) return;
    stream->accepted = true;
    if (stream->over) StreamOver(stream, false);
    return;
  }
  world_->Note("refused", stream->from.job, stream->from.generation, stream->from.rank, stream->from.session);
  if (!expected) world_->Fail(absl::StrCat("refused without need: ", std::string(status.message())));
  if (stream->ended) return;
  FindGroup(stream->from.job, stream->from.generation)->Refuse(stream);
  if (!stream->accepted) return;
  core::SessionEnded ended{stream->from};
  ended.refusal = std::string(status.message());
  Post({ended, stream, nullptr});
}

// A worker of the group that is wanted, on its newest stream, must not be turned away.
bool SimCoordinator::MayRefuse(const core::FromWorker& from) const {
  const core::Job* job = state_->Find(from.job);
  if (job == nullptr || job->generation != from.generation || !core::IsActive(job->state)) return true;
  if (!job->failure.empty() || job->exit.has_value() || job->cancel_requested || job->draining) return true;
  return from.session < job->ranks[from.rank].session;
}

void SimCoordinator::StreamOver(Stream* stream, bool process_gone) {
  stream->over = true;
  if (!stream->accepted || !up_ || stream->incarnation != incarnation_) return;
  core::SessionEnded ended{stream->from};
  ended.process_gone = process_gone;
  Post({ended, stream, nullptr});
}

void SimCoordinator::Stage(const core::Effect& effect, const Input& input, Round& round) {
  std::visit(
      [&](const auto& e) {
        if constexpr (std::is_same_v<std::decay_t<decltype(e)>, core::Drained>) {
          round.actions.push_back({effect, 0, nullptr});
        } else {
          Change change{effect, 0, std::nullopt};
          if (SimStore::IsSeen(effect)) {
            round.undo_sequences.try_emplace(e.job, sequences_[e.job]);
            change.sequence = ++sequences_[e.job];
            round.dirty.insert(e.job);
          }
          if (std::holds_alternative<core::StoreGeneration>(effect) ||
              std::holds_alternative<core::StoreEarlyStop>(effect) ||
              std::holds_alternative<core::StoreScale>(effect) ||
              std::holds_alternative<core::StoreCancelRequest>(effect)) {
            round.dirty.insert(e.job);
          }
          const auto* submitted = std::get_if<core::JobSubmitted>(&input.event);
          if (submitted != nullptr && submitted->job == e.job && change.sequence == 1) change.insert = *submitted;
          if (SimStore::IsStored(effect)) round.changes.push_back(std::move(change));
          const core::Job* job = state_->Find(e.job);
          round.actions.push_back({effect, job == nullptr ? 0 : job->generation, input.stream});
        }
      },
      effect);
}

void SimCoordinator::Write(Round& round) {
  std::vector<Update> updates;
  for (const core::JobId& id : round.dirty) {
    const core::Job* job = state_->Find(id);
    if (job == nullptr) continue;
    updates.push_back({id, job->shape.workers, job->group_size(), job->epochs, job->high_water, job->restarts,
                       job->stopped_at, job->cancel_reason});
  }
  store_->Write(round.changes, updates);
}

bool SimCoordinator::Act(Round& round) {
  const int incarnation = incarnation_;
  const size_t dies_at = crash_in_round_ ? world_->Below(static_cast<int>(round.actions.size()) + 1) : SIZE_MAX;
  for (size_t i = 0; i <= round.actions.size(); ++i) {
    if (i == dies_at) {
      Crash();
      return false;
    }
    if (i < round.actions.size()) Do(round.actions[i]);
    if (incarnation != incarnation_) return false;
  }
  return true;
}

void SimCoordinator::Do(const Action& action) {
  if (const auto* launch = std::get_if<core::Launch>(&action.effect)) return Do(*launch);
  if (const auto* kill = std::get_if<core::KillGroup>(&action.effect)) {
    world_->Note("kill", kill->job, kill->generation, 0);
    if (SimGroup* group = FindGroup(kill->job, kill->generation)) group->Kill();
  } else if (const auto* timer = std::get_if<core::StartTimer>(&action.effect)) {
    world_->After(timer->delay.count(), [this, timer = *timer, incarnation = incarnation_] {
      if (up_ && incarnation == incarnation_) Tell(core::TimerFired{timer.job, timer.generation, timer.kind});
    });
  } else if (const auto* drop = std::get_if<core::DropSnapshots>(&action.effect)) {
    std::erase_if(files_->snapshots, [&](const auto& entry) { return entry.first.first == drop->job; });
    std::erase_if(sessions_, [&](const auto& entry) { return std::get<0>(entry.first) == drop->job; });
  } else if (const auto* welcome = std::get_if<core::SendWelcome>(&action.effect)) {
    sessions_[{welcome->job, action.generation, welcome->rank}] = action.stream;
    ToWorker(welcome->job, action.generation, welcome->rank, action.effect);
  } else if (const auto* stop = std::get_if<core::SendStop>(&action.effect)) {
    world_->Note("stop", stop->job, action.generation, stop->rank, stop->checkpoint);
    ToWorker(stop->job, action.generation, stop->rank, action.effect);
  } else if (const auto* lease = std::get_if<core::SendLease>(&action.effect)) {
    ToWorker(lease->job, lease->generation, lease->rank, action.effect);
  } else if (const auto* ack = std::get_if<core::SendAck>(&action.effect)) {
    CheckAck(*ack);
    ToWorker(ack->job, ack->generation, ack->rank, action.effect);
  } else if (const auto* state = std::get_if<core::StoreState>(&action.effect)) {
    world_->Note(core::JobStateName(state->state).data(), state->job, state->generation, 0);
  } else if (const auto* steps = std::get_if<core::StoreSteps>(&action.effect)) {
    world_->Note("commits", steps->job, steps->generation, steps->snapshot, steps->first_step, steps->end_step);
  } else if (std::holds_alternative<core::Drained>(action.effect)) {
    Crash();
  }
}

void SimCoordinator::Do(const core::Launch& launch) {
  world_->Note("launch", launch.job, launch.generation, launch.shape.workers, launch.resume.step,
               launch.resume.snapshot_generation);
  CheckLaunch(launch);
  if (world_->now() < launches_fail_until_) return Tell(core::LaunchFailed{launch.job, launch.generation, "no"});
  std::erase_if(files_->snapshots, [&](const auto& entry) {
    return entry.first.first == launch.job && entry.first.second != launch.resume.snapshot_generation;
  });
  groups_.push_back(std::make_unique<SimGroup>(world_, this, files_, &plans_->at(launch.job), launch));
}

void SimCoordinator::ToWorker(const core::JobId& job, int64_t generation, int rank, const core::Effect& effect) {
  const auto it = sessions_.find({job, generation, rank});
  if (it != sessions_.end()) FindGroup(job, generation)->Send(it->second, effect);
}

void SimCoordinator::Refuse(std::vector<Input> inputs) {
  std::vector<Input> again, volatile_ones;
  for (Input& input : inputs) {
    if (IsFromPeople(input.event)) {
      if (input.answer) input.answer(absl::ResourceExhaustedError("the disk is full"));
    } else if (inputs.size() > 1 && (std::holds_alternative<core::LeaseAsked>(input.event) ||
                                     std::holds_alternative<core::HeartbeatSaid>(input.event))) {
      volatile_ones.push_back(std::move(input));
    } else {
      again.push_back(std::move(input));
    }
  }
  const int incarnation = incarnation_;
  if (!volatile_ones.empty()) Process(std::move(volatile_ones));
  if (incarnation != incarnation_) return;
  inbox_.insert(inbox_.begin(), std::make_move_iterator(again.begin()), std::make_move_iterator(again.end()));
  if (!again.empty()) Wake(250);
}

}  // namespace lockstep::sim
