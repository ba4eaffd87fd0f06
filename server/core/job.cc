// SPDX-License-Identifier: Apache-2.0
#include "server/core/job.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace lockstep::core {

std::string_view JobStateName(JobState state) {
  switch (state) {
    case JobState::kQueued:
      return "QUEUED";
    case JobState::kStarting:
      return "STARTING";
    case JobState::kRunning:
      return "RUNNING";
    case JobState::kSucceeded:
      return "SUCCEEDED";
    case JobState::kFailed:
      return "FAILED";
    case JobState::kCancelled:
      return "CANCELLED";
  }
  return "UNKNOWN";
}

bool IsEnded(JobState state) {
  return state == JobState::kSucceeded || state == JobState::kFailed || state == JobState::kCancelled;
}

bool IsActive(JobState state) { return state == JobState::kStarting || state == JobState::kRunning; }

ResumePoint Job::Resume() const {
  ResumePoint point{shape.first_step, "", 0};
  if (auto it = checkpoints.upper_bound(committed); it != checkpoints.begin()) {
    --it;
    point = {it->first, it->second, 0};
  }
  if (auto it = snapshots.upper_bound(committed); it != snapshots.begin()) {
    --it;
    // The snapshot is quicker to load.
    if (it->first >= point.step) point = {it->first, "", it->second};
  }
  return point;
}

bool Job::HasNowhereToStart() const {
  const ResumePoint point = Resume();
  return shape.first_step > 0 && point.path.empty() && point.snapshot_generation == 0;
}

bool Job::AllSeen() const {
  return std::all_of(ranks.begin(), ranks.end(), [](const Rank& rank) { return rank.seen; });
}

bool Job::AnyConnected() const {
  return std::any_of(ranks.begin(), ranks.end(), [](const Rank& rank) { return rank.connected; });
}

bool Job::AllSaid(Farewell farewell) const {
  return !ranks.empty() &&
         std::all_of(ranks.begin(), ranks.end(), [&](const Rank& rank) { return rank.farewell == farewell; });
}

ShardRange ShardsOfRank(int rank, int world, int logical_shards) {
  const int64_t shards = logical_shards;
  return {static_cast<int>(rank * shards / world), static_cast<int>((rank + 1) * shards / world)};
}

std::string DescribeExit(const GroupExit& exit) {
  if (!exit.reported) return "its shim was killed before it could report";
  if (exit.signal != 0) return absl::StrCat("mpirun was killed by signal ", exit.signal);
  if (exit.exit_code > 128 && exit.exit_code < 192) {
    return absl::StrCat("mpirun ended with exit code ", exit.exit_code, " (a process was killed by signal ",
                        exit.exit_code - 128, ")");
  }
  return absl::StrCat("mpirun ended with exit code ", exit.exit_code);
}

}  // namespace lockstep::core
