// SPDX-License-Identifier: Apache-2.0
// Turns stored events into metrics, live and, after a restart, from the store.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "lockstep/v1/events.pb.h"
#include "server/metrics/metrics.h"
#include "server/store/store.h"

namespace lockstep {

// Used by one thread at a time.
class MetricsFeed {
 public:
  explicit MetricsFeed(metrics::Metrics* metrics) : metrics_(metrics) {}

  // Counts all stored jobs and replays the events of the live and the newest ones, so that counters go on
  // where they were. There is a limit to how many; beyond it, only a job's newest events are looked at, and
  // its counters begin anew.
  // The store outlives this object.
  absl::Status Replay(const store::Store& store);
  void OnEvent(const std::string& job_id, const lockstep::v1::JobEvent& event);

 private:
  absl::Status ReplayJob(const store::Store& store, const store::JobRow& row, bool whole);
  void Feed(const std::string& job_id, const lockstep::v1::JobEvent& event);
  void TakeState(const std::string& job_id, const lockstep::v1::StateChanged& changed);
  void TakeSteps(const std::string& job_id, const lockstep::v1::StepsCommitted& steps);
  void TakeWarning(const std::string& job_id, lockstep::v1::WarningKind kind);
  void CountState(const std::string& job_id, int64_t sequence, lockstep::v1::JobState state);
  // The state in which a job had ended that now goes on; 0: not known.
  int EndedAs(const std::string& job_id, int64_t sequence) const;

  metrics::Metrics* const metrics_;
  // Set by Replay.
  const store::Store* store_ = nullptr;
  // In a replay of a whole job, or live: counters count.
  bool counting_ = true;
  // In a replay: the job's steps, summed up, so that a long job costs little.
  std::optional<metrics::StepsSample> summed_;
  bool replaying_ = false;
  std::map<int, int64_t> jobs_by_state_;
  // Of jobs that have not ended.
  std::map<std::string, int> state_of_;
  std::map<std::string, int64_t> restarts_of_;
  std::map<std::string, std::set<int>> workers_up_;
};

}  // namespace lockstep
