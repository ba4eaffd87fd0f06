// SPDX-License-Identifier: Apache-2.0
// Pieces that the rules share. Only for server/core.
#pragma once

#include <string>
#include <vector>

#include "server/core/events.h"
#include "server/core/state.h"

namespace lockstep::core {

struct Context {
  State& state;
  const Limits& limits;
  std::vector<Effect> effects;

  template <typename E>
  void Do(E effect) {
    effects.emplace_back(std::move(effect));
  }
};

// Moves the job and stores it; ended jobs leave the state.
void MoveTo(Context& context, const JobId& id, JobState to, const std::string& reason);
// Starts queued jobs, strictly first come first served, while the first one fits; then sees that running
// groups get the size that they should have.
void Schedule(Context& context);
// Stores that the rank has failed: should the coordinator die before the group has ended, the next one
// knows that it must.
void MarkFailed(Context& context, const JobId& id, int rank);
// Notes the first cause of a failure and sees that the group ends.
void FailGroup(Context& context, const JobId& id, const std::string& cause, std::chrono::milliseconds grace);
// Asks every connected worker to stop after the step they agree on.
void StopGroup(Context& context, const JobId& id, const std::string& reason, bool checkpoint);
// The watchdog looks at the group.
void Watch(Context& context, const JobId& id);
// Decides how the job goes on once its group is gone and its sessions are over.
void SettleIfOver(Context& context, const JobId& id, bool force);
// Reports Drained when there is nothing left to wait for.
void ReportIfDrained(Context& context);

absl::Status Handle(Context& context, const HelloSaid& event);
absl::Status Handle(Context& context, const HeartbeatSaid& event);
absl::Status Handle(Context& context, const LeaseAsked& event);
absl::Status Handle(Context& context, const GroupIdGiven& event);
absl::Status Handle(Context& context, const GroupIdAsked& event);
absl::Status Handle(Context& context, const StepsReported& event);
absl::Status Handle(Context& context, const EpochReported& event);
absl::Status Handle(Context& context, const WarningReported& event);
absl::Status Handle(Context& context, const CheckpointReported& event);
absl::Status Handle(Context& context, const DigestReported& event);
absl::Status Handle(Context& context, const GoodbyeSaid& event);
absl::Status Handle(Context& context, const SessionEnded& event);

}  // namespace lockstep::core
