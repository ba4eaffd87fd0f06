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
  int workers = 1;
  int threads_per_worker = 1;
  int logical_shards = 1;
  int64_t total_steps = 0;
};

// A place to go on from: all steps below `step` are in it.
struct Checkpoint {
  int64_t step = 0;
  std::string path;
};

// How a rank said goodbye.
enum class Farewell { kNone, kSucceeded, kFailed, kStopped };

// One worker process of the current generation.
struct Rank {
  bool connected = false;
  // True from its Hello on, also after its session ended.
  bool seen = false;
  std::string host;
  int64_t pid = 0;
  // First step not yet leased to it.
  int64_t leased_end = 0;
  Farewell farewell = Farewell::kNone;
  int64_t farewell_step = 0;
};

// How the shim says that the worker group ended.
struct GroupExit {
  int exit_code = 0;
  // 0: it was not killed.
  int signal = 0;
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
  // Launches so far; the fencing token of the current one.
  int64_t generation = 0;
  // Steps [0, committed) are done and in the ledger.
  int64_t committed = 0;
  // By step; those past `committed` are not used.
  std::map<int64_t, std::string> checkpoints;
  bool cancel_requested = false;
  std::string cancel_reason;

  // Of the current generation:
  std::vector<Rank> ranks;
  // Digests by step, one per rank, empty where not yet reported.
  std::map<int64_t, std::vector<std::string>> digests;
  // Why the group must fail, the first cause only.
  std::string failure;
  // Told to stop with a checkpoint because the coordinator stops.
  bool draining = false;
  std::optional<GroupExit> exit;

  // The newest checkpoint that the ledger covers; step 0 without a path where there is none.
  Checkpoint ResumePoint() const;
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
