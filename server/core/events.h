// SPDX-License-Identifier: Apache-2.0
// What can happen to the coordinator, and what it then has to do.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
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
  // At shape.first_step; empty: the initial weights.
  std::string start_checkpoint;
};
// A job found in the store at start-up. An active one's worker group may still run: its workers come
// back by themselves, or GroupExited says that it is gone.
struct JobRecovered {
  Job job;
};
struct CancelAsked {
  JobId job;
  std::string reason;
};
struct ScaleAsked {
  JobId job;
  int workers = 0;
};
// A job that had ended, as the store has it, is to go on.
struct ResumeAsked {
  Job job;
  // nullopt: from the newest place.
  std::optional<int64_t> from_step;
};
// Common to all that a worker says: who says it, under which fencing token.
struct FromWorker {
  JobId job;
  int64_t generation = 0;
  int rank = 0;
  // Number of the rank's stream.
  int64_t session = 1;
  // Number of the report; 0 for what is not one.
  int64_t report = 0;
};
struct HelloSaid : FromWorker {
  int world_size = 0;
  std::string host;
  int64_t pid = 0;
  // End of the leases that it holds from earlier streams.
  int64_t leased_end = 0;
};
struct HeartbeatSaid : FromWorker {
  int64_t progress = 0;
  Phase phase = Phase::kStep;
  double step_seconds = 0;
};
struct LeaseAsked : FromWorker {
  int64_t steps = 0;
};
// Rank 0 says what the group meets under.
struct GroupIdGiven : FromWorker {
  std::string id;
};
struct GroupIdAsked : FromWorker {};
struct StepsReported : FromWorker {
  int64_t first_step = 0;
  int64_t end_step = 0;
  // The state at end_step lies in shared memory.
  bool snapshot = false;
  // The rank's digests by step.
  std::vector<std::pair<int64_t, std::string>> digests;
};
// An evaluation at the end of an epoch.
struct EpochReported : FromWorker {
  int64_t epoch = 0;
  // Steps done.
  int64_t step = 0;
  // It was the last one, though there are more.
  bool stopped_early = false;
};
// Something a person should know; here only for its fence.
struct WarningReported : FromWorker {};
struct CheckpointReported : FromWorker {
  int64_t step = 0;
  std::string path;
  // The trained model, not a place to go on from.
  bool final = false;
};
struct DigestReported : FromWorker {
  std::vector<std::pair<int64_t, std::string>> digests;
};
struct GoodbyeSaid : FromWorker {
  Farewell farewell = Farewell::kNone;
  std::string message;
  int64_t step = 0;
  // It would fail again.
  bool permanent = false;
  // What it was to start from is missing or damaged.
  bool resume_unusable = false;
};
// The stream ended, for whatever reason.
struct SessionEnded : FromWorker {
  // The process is known to be gone.
  bool process_gone = false;
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
enum class TimerKind { kStartup, kKill, kSettle, kWatch };
struct TimerFired {
  JobId job;
  int64_t generation = 0;
  TimerKind kind = TimerKind::kStartup;
};
// The coordinator is asked to stop.
struct DrainAsked {};

using Event =
    std::variant<JobSubmitted, JobRecovered, CancelAsked, ScaleAsked, ResumeAsked, HelloSaid, HeartbeatSaid, LeaseAsked,
                 GroupIdGiven, GroupIdAsked, StepsReported, EpochReported, WarningReported, CheckpointReported,
                 DigestReported, GoodbyeSaid, SessionEnded, LaunchFailed, GroupExited, TimerFired, DrainAsked>;

// --- What is to be done. First all that is to be stored, in one transaction; then the rest, in order.

// The job is new, or moved to another state.
struct StoreState {
  JobId job;
  JobState state = JobState::kQueued;
  std::string reason;
  int64_t generation = 0;
  int64_t restarts = 0;
  // SUCCEEDED before the last step; the reason does not say why.
  bool stopped_early = false;
};
// The next generation begins at `first_step`; ledger rows from there on, and checkpoints past it, are void.
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
  bool snapshot = false;
};
// What a rank says its parameters' digest is. The store compares it with what it has.
struct StoreDigest {
  JobId job;
  int64_t step = 0;
  std::string digest;
};
struct StoreEpoch {
  JobId job;
  int64_t epoch = 0;
};
// Training ends early, after `step` steps.
struct StoreEarlyStop {
  JobId job;
  int64_t step = 0;
};
struct StoreCheckpoint {
  JobId job;
  int64_t generation = 0;
  int64_t step = 0;
  std::string path;
  bool final = false;
};
// What the coordinator must know of a rank after a restart.
struct StoreRank {
  JobId job;
  int64_t generation = 0;
  int rank = 0;
  Rank state;
};
// A checkpoint that turned out to be damaged.
struct VoidCheckpoint {
  JobId job;
  int64_t step = 0;
};
// Snapshots of the states after more than `after` steps must not be used any more.
struct VoidSnapshots {
  JobId job;
  int64_t after = 0;
};
// The number of workers asked for.
struct StoreScale {
  JobId job;
  int workers = 0;
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
// The wire contract's WarningKind.
enum class WarningKind { kOther = 0, kCheckpointFailed = 1, kDivergence = 2, kNonFinite = 3, kResumeUnusable = 4 };
// What a worker reported, where `message` is empty.
struct StoreWarning {
  JobId job;
  WarningKind kind = WarningKind::kOther;
  std::string message;
};
struct Launch {
  JobId job;
  int64_t generation = 0;
  // With the group's own number of workers.
  JobShape shape;
  ResumePoint resume;
};
struct KillGroup {
  JobId job;
  int64_t generation = 0;
};
struct SendWelcome {
  JobId job;
  int rank = 0;
  JobShape shape;
  ResumePoint resume;
  int64_t last_report = 0;
};
struct SendAck {
  JobId job;
  int64_t generation = 0;
  int rank = 0;
  int64_t report = 0;
};
struct SendLease {
  JobId job;
  int64_t generation = 0;
  int rank = 0;
  int64_t first_step = 0;
  int64_t end_step = 0;
  ShardRange shards;
};
struct SendGroupId {
  JobId job;
  int64_t generation = 0;
  int rank = 0;
  std::string id;
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
// The job has ended or left the machine: what lies in shared memory for it is not needed any more.
struct DropSnapshots {
  JobId job;
};
// Draining, and nothing runs any more.
struct Drained {};

using Effect = std::variant<StoreState, StoreGeneration, StoreSteps, StoreDigest, StoreEpoch, StoreEarlyStop,
                            StoreCheckpoint, StoreRank, VoidCheckpoint, VoidSnapshots, StoreScale, StoreCancelRequest,
                            StoreWorker, StoreWarning, Launch, KillGroup, SendWelcome, SendLease, SendGroupId, SendStop,
                            SendAck, StartTimer, DropSnapshots, Drained>;

// Time limits.
struct Limits {
  // From launch until every worker has said hello.
  std::chrono::milliseconds startup{60'000};
  // From a cancel until the group is killed.
  std::chrono::milliseconds cancel_grace{3'000};
  // From a worker's failure until the rest of its group is killed: others may say why they failed.
  std::chrono::milliseconds failure_grace{200};
  // Between two looks of the watchdog, and its limits in looks. A step may take five times the 99th
  // percentile besides.
  std::chrono::milliseconds watch{500};
  int startup_ticks = 120;
  int step_ticks = 9;
  int checkpoint_ticks = 240;
  // Groups that may be started again without a new step before the job fails.
  int restart_budget = 3;
  // From the wish to scale until a group that does not stop is killed.
  std::chrono::milliseconds scale_grace{10'000};
  // From the coordinator's stop until groups are killed.
  std::chrono::milliseconds drain_grace{3'500};
  // From a launch that failed until the next, for each that failed before it.
  std::chrono::milliseconds relaunch{2'000};
  // From the group's end until sessions that are still open no longer count.
  std::chrono::milliseconds settle{2'000};
};

struct Outcome {
  // Not OK: the event was refused and changed nothing.
  absl::Status status;
  std::vector<Effect> effects;
};

}  // namespace lockstep::core
