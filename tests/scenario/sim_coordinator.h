// SPDX-License-Identifier: Apache-2.0
// What server/rpc/coordinator.cc does around the core, in virtual time: batches of events, one
// transaction each, taken back as a whole where it fails, deeds only after it. May die at any point.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "server/core/apply.h"
#include "tests/scenario/sim_group.h"
#include "tests/scenario/sim_store.h"
#include "tests/scenario/sim_world.h"

namespace lockstep::sim {

class SimCoordinator final : public Receiver {
 public:
  using Answer = std::function<void(const absl::Status&)>;

  SimCoordinator(World* world, SimStore* store, Files* files, const std::map<core::JobId, Plan>* plans, int slots);

  // Receiver.
  bool up() const override { return up_; }
  int incarnation() const override { return incarnation_; }
  void Arrive(core::Event event, Stream* stream) override { Post({std::move(event), stream, nullptr}); }
  void StreamOver(Stream* stream, bool process_gone) override;
  void Tell(core::Event event) override { Post({std::move(event), nullptr, nullptr}); }

  // Not answered where the coordinator dies first, or is down.
  void Ask(core::Event event, Answer answer) { Post({std::move(event), nullptr, std::move(answer)}); }

  void Start();
  void Crash();
  // Its transactions fail until then; it does nothing until then; launches fail until then.
  void FailStoreUntil(int64_t time) { store_fails_until_ = time; }
  void PauseUntil(int64_t time) { paused_until_ = time; }
  void FailLaunchesUntil(int64_t time) { launches_fail_until_ = time; }
  // Dies in the middle of the next round.
  void CrashInNextRound() { crash_in_round_ = true; }
  void set_slots(int slots) { slots_ = slots; }
  void set_restart_delay(int64_t milliseconds) { restart_delay_ = milliseconds; }

  const core::State* state() const { return state_.get(); }
  const std::vector<std::unique_ptr<SimGroup>>& groups() const { return groups_; }
  int64_t launches() const { return static_cast<int64_t>(groups_.size()); }
  int64_t rollbacks() const { return rollbacks_; }
  const core::Limits& limits() const { return limits_; }

 private:
  struct Input {
    core::Event event;
    Stream* stream = nullptr;
    Answer answer;
  };
  struct Action {
    core::Effect effect;
    int64_t generation = 0;
    Stream* stream = nullptr;
  };
  struct Round {
    std::vector<Change> changes;
    std::set<core::JobId> dirty;
    std::vector<Action> actions;
    std::map<core::JobId, int64_t> undo_sequences;
  };
  using SessionKey = std::tuple<core::JobId, int64_t, int>;

  void Post(Input input);
  void Wake(int64_t milliseconds);
  void Work();
  void Process(std::vector<Input> inputs);
  absl::Status Accept(Input& input, Round& round);
  void Answered(Input& input, const absl::Status& status, bool expected);
  bool MayRefuse(const core::FromWorker& from) const;
  void Stage(const core::Effect& effect, const Input& input, Round& round);
  void Write(Round& round);
  // False: it died in between.
  bool Act(Round& round);
  void Do(const Action& action);
  void Do(const core::Launch& launch);
  void ToWorker(const core::JobId& job, int64_t generation, int rank, const core::Effect& effect);
  void Refuse(std::vector<Input> inputs);
  void ForgetMissing(core::Job& job) const;
  void CheckState();
  void CheckLaunch(const core::Launch& launch);
  void CheckAck(const core::SendAck& ack);
  SimGroup* FindGroup(const core::JobId& job, int64_t generation);

  World* const world_;
  SimStore* const store_;
  Files* const files_;
  const std::map<core::JobId, Plan>* const plans_;
  int slots_;
  core::Limits limits_;

  bool up_ = false;
  int incarnation_ = 0;
  int64_t restart_delay_ = 100;
  int64_t store_fails_until_ = 0, paused_until_ = 0, launches_fail_until_ = 0;
  bool crash_in_round_ = false;
  bool woken_ = false;
  int64_t rollbacks_ = 0;
  std::deque<Input> inbox_;
  std::unique_ptr<core::State> state_;
  int64_t last_order_ = 0;
  std::map<core::JobId, int64_t> sequences_;
  std::map<SessionKey, Stream*> sessions_;
  // All that were ever launched; the newest of a job is the last.
  std::vector<std::unique_ptr<SimGroup>> groups_;
};

}  // namespace lockstep::sim
