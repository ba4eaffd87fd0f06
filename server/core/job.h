// SPDX-License-Identifier: Apache-2.0
// A job as the core sees it: numbers and words only, no spec.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep::core {

using JobId = std::string;

// The values are those of the wire contract's JobState and are stored.
enum class JobState { kQueued = 1, kStarting = 2, kRunning = 3, kSucceeded = 4, kFailed = 5, kCancelled = 6 };

std::string_view JobStateName(JobState state);
bool IsEnded(JobState state);
// STARTING or RUNNING: holds slots.
bool IsActive(JobState state);

// What a job asks for and how long it is.
struct JobShape {
  // Asked for; a group has fewer where there are fewer slots.
  int workers = 1;
  int threads_per_worker = 1;
  int logical_shards = 1;
  int64_t total_steps = 0;
  int64_t steps_per_epoch = 1;
  // Steps below this one are another job's.
  int64_t first_step = 0;
};

// A place to go on from: all steps below `step` are in it.
struct ResumePoint {
  int64_t step = 0;
  // A checkpoint's folder; empty: a snapshot or the initial weights.
  std::string path;
  // Not 0: the snapshot in shared memory that this generation made.
  int64_t snapshot_generation = 0;
};

// Where a rank is, for the watchdog; the wire contract's numbers.
enum class Phase { kStartup = 1, kStep = 2, kCheckpoint = 3, kLease = 4 };

// How a rank said goodbye.
enum class Farewell { kNone, kSucceeded, kFailed, kStopped };

// One worker process of the current generation.
struct Rank {
  bool connected = false;
  // True from its Hello on, also after its session ended.
  bool seen = false;
  // Number of its newest stream; what comes on older ones is stale.
  int64_t session = 0;
  // Its newest report that is stored.
  int64_t last_report = 0;
  std::string host;
  int64_t pid = 0;
  // First step not yet leased to it.
  int64_t leased_end = 0;
  Farewell farewell = Farewell::kNone;
  int64_t farewell_step = 0;
  // Has asked on this stream for the group's id, which is not known yet.
  bool wants_group_id = false;

  // For the watchdog.
  Phase phase = Phase::kStartup;
  int64_t progress = -1;
  double step_seconds = 0;
  // Ticks since `progress` last changed, and since the last heartbeat.
  int idle_ticks = 0;
  int quiet_ticks = 0;
};

// How the shim says that the worker group ended.
struct GroupExit {
  int exit_code = 0;
  // 0: it was not killed.
  int signal = 0;
  // The shim was told to kill it.
  bool killed = false;
  // False: the shim itself was killed and left no report.
  bool reported = true;
  // Last line of the group's output, for people; may be empty.
  std::string last_output;
};

struct Job {
  JobId id;
  // Place in the queue, in the order of submission.
  int64_t order = 0;
  JobShape shape;
  JobState state = JobState::kQueued;
  // The fencing token: one more for each launch, and where people send the job back to an earlier step.
  int64_t generation = 0;
  // Steps [0, committed) are done and in the ledger.
  int64_t committed = 0;
  // Paths by step; those past `committed` are not used.
  std::map<int64_t, std::string> checkpoints;
  // Generations by step: the newest two snapshots in shared memory.
  std::map<int64_t, int64_t> snapshots;
  // Epochs that are reported.
  int64_t epochs = 0;
  // The most steps that were ever committed, but for what a damaged place to go on from took back.
  int64_t high_water = 0;
  // The workers found after so many steps that the rest is not worth doing; 0: they did not. Steps of a
  // whole epoch.
  int64_t stopped_at = 0;
  // Groups started again after one ended too early.
  int64_t restarts = 0;
  // Why groups ended since the last new step was committed.
  std::vector<std::string> causes;
  bool cancel_requested = false;
  std::string cancel_reason;

  // Of the current generation:
  std::vector<Rank> ranks;
  // What its ranks meet under on their GPUs, once rank 0 has said it; not stored.
  std::string group_id;
  ResumePoint resumed_from;
  // The newest step at which all ranks were known to hold the same parameters.
  int64_t agreed = 0;
  // They do not any more: nothing that the group reports counts.
  bool diverged = false;
  // Digests by step, one per rank, empty where not yet reported.
  std::map<int64_t, std::vector<std::string>> digests;
  // Why the group must fail, the first cause only.
  std::string failure;
  // The failure would come again.
  bool permanent = false;
  // Its snapshots or what it started from must not be used again.
  bool resume_unusable = false;
  // Told to stop so that it can start with another number of workers.
  bool rescaling = false;
  // Told to stop with a checkpoint because the coordinator stops.
  bool draining = false;
  std::optional<GroupExit> exit;

  // The newest snapshot or checkpoint that the ledger covers; shape.first_step without either where there is none.
  ResumePoint Resume() const;
  // The steps that there are to do.
  int64_t end_step() const { return stopped_at > 0 ? stopped_at : shape.total_steps; }
  // Its first steps are another job's, and there is no state to go on from.
  bool HasNowhereToStart() const;
  int group_size() const { return static_cast<int>(ranks.size()); }
  bool AllSeen() const;
  bool AnyConnected() const;
  bool AllSaid(Farewell farewell) const;
};

// The slice [first, end) of `logical_shards` that `rank` of `world` owns.
struct ShardRange {
  int first = 0;
  int end = 0;
};
ShardRange ShardsOfRank(int rank, int world, int logical_shards);

// "exit code 1", "signal 9 (Killed)", "exit code 137 (killed by signal 9)".
std::string DescribeExit(const GroupExit& exit);

}  // namespace lockstep::core
