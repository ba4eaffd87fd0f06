// SPDX-License-Identifier: Apache-2.0
// What can happen to the coordinator, and what it then has to do.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "server/core/job.h"

namespace lockstep::core {

// --- What happens.

struct JobSubmitted {
  JobId job;
  int64_t order = 0;
  JobShape shape;
};
// A job found in the store at start-up. An active one's worker group is gone by now.
struct JobRecovered {
  Job job;
};
struct CancelAsked {
  JobId job;
  std::string reason;
};
// Common to all that a worker says: who says it, under which fencing token.
struct FromWorker {
  JobId job;
  int64_t generation = 0;
  int rank = 0;
};
struct HelloSaid : FromWorker {
  int world_size = 0;
  std::string host;
  int64_t pid = 0;
};
struct LeaseAsked : FromWorker {
  int64_t steps = 0;
};
struct StepsReported : FromWorker {
  int64_t first_step = 0;
  int64_t end_step = 0;
};
// An evaluation at the end of an epoch; here only for its fence.
struct EpochReported : FromWorker {};
struct CheckpointReported : FromWorker {
  int64_t step = 0;
  std::string path;
  // The trained model, not a place to go on from.
  bool final = false;
};
struct DigestReported : FromWorker {
  int64_t step = 0;
  std::string digest;
};
struct GoodbyeSaid : FromWorker {
  Farewell farewell = Farewell::kNone;
  std::string message;
  int64_t step = 0;
};
// The stream ended, for whatever reason.
struct SessionEnded : FromWorker {
  // Set where the coordinator ended it because it refused a message: what was wrong.
  std::string refusal;
};
struct LaunchFailed {
  JobId job;
  int64_t generation = 0;
  std::string message;
};
struct GroupExited {
  JobId job;
  int64_t generation = 0;
  GroupExit exit;
};
enum class TimerKind { kStartup, kKill, kSettle };
struct TimerFired {
  JobId job;
  int64_t generation = 0;
  TimerKind kind = TimerKind::kStartup;
};
// The coordinator is asked to stop.
struct DrainAsked {};

using Event = std::variant<JobSubmitted, JobRecovered, CancelAsked, HelloSaid, LeaseAsked, StepsReported, EpochReported,
                           CheckpointReported, DigestReported, GoodbyeSaid, SessionEnded, LaunchFailed, GroupExited,
                           TimerFired, DrainAsked>;

// --- What is to be done. First all that is to be stored, in one transaction; then the rest, in order.

// The job is new, or moved to another state.
struct StoreState {
  JobId job;
  JobState state = JobState::kQueued;
  std::string reason;
  int64_t generation = 0;
};
// The next generation begins at `first_step`; ledger rows from there on are void.
struct StoreGeneration {
  JobId job;
  int64_t generation = 0;
  int64_t first_step = 0;
};
struct StoreSteps {
  JobId job;
  int64_t generation = 0;
  int64_t first_step = 0;
  int64_t end_step = 0;
};
struct StoreEpoch {
  JobId job;
};
struct StoreCheckpoint {
  JobId job;
  int64_t generation = 0;
  int64_t step = 0;
  std::string path;
  bool final = false;
};
struct StoreCancelRequest {
  JobId job;
  std::string reason;
};
struct StoreWorker {
  JobId job;
  int64_t generation = 0;
  int rank = 0;
  std::string host;
  int64_t pid = 0;
  bool connected = false;
};
struct StoreWarning {
  JobId job;
  std::string message;
};
struct Launch {
  JobId job;
  int64_t generation = 0;
  JobShape shape;
};
struct KillGroup {
  JobId job;
  int64_t generation = 0;
};
struct SendWelcome {
  JobId job;
  int rank = 0;
  JobShape shape;
  Checkpoint resume;
};
struct SendLease {
  JobId job;
  int64_t generation = 0;
  int rank = 0;
  int64_t first_step = 0;
  int64_t end_step = 0;
  ShardRange shards;
};
struct SendStop {
  JobId job;
  int rank = 0;
  std::string reason;
  bool checkpoint = false;
};
struct StartTimer {
  JobId job;
  int64_t generation = 0;
  TimerKind kind = TimerKind::kStartup;
  std::chrono::milliseconds delay{0};
};
// Draining, and nothing runs any more.
struct Drained {};

using Effect =
    std::variant<StoreState, StoreGeneration, StoreSteps, StoreEpoch, StoreCheckpoint, StoreCancelRequest, StoreWorker,
                 StoreWarning, Launch, KillGroup, SendWelcome, SendLease, SendStop, StartTimer, Drained>;

// Time limits.
struct Limits {
  // From launch until every worker has said hello.
  std::chrono::milliseconds startup{60'000};
  // From a cancel until the group is killed.
  std::chrono::milliseconds cancel_grace{3'000};
  // From a worker's death or failure until the rest of its group is killed.
  std::chrono::milliseconds failure_grace{2'000};
  // From the coordinator's stop until groups are killed.
  std::chrono::milliseconds drain_grace{3'500};
  // From the group's end until sessions that are still open no longer count.
  std::chrono::milliseconds settle{2'000};
};

struct Outcome {
  // Not OK: the event was refused and changed nothing.
  absl::Status status;
  std::vector<Effect> effects;
};

}  // namespace lockstep::core
