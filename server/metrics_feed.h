// SPDX-License-Identifier: Apache-2.0
// Turns stored events into metrics, live and, after a restart, from the store.
#pragma once

#include <map>
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

  // Counts all stored jobs and replays the events of the newest ones.
  absl::Status Replay(const store::Store& store);
  void OnEvent(const std::string& job_id, const lockstep::v1::JobEvent& event);

 private:
  void Feed(const std::string& job_id, const lockstep::v1::JobEvent& event);
  void CountState(const std::string& job_id, lockstep::v1::JobState state);

  metrics::Metrics* const metrics_;
  std::map<int, int64_t> jobs_by_state_;
  // Of jobs that have not ended.
  std::map<std::string, int> state_of_;
  std::map<std::string, std::set<int>> workers_up_;
};

}  // namespace lockstep
