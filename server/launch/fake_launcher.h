// SPDX-License-Identifier: Apache-2.0
// A launcher for tests: it starts nothing and remembers what it was asked.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/launch/launcher.h"

namespace lockstep::launch {

class FakeLauncher final : public Launcher {
 public:
  absl::Status Launch(const LaunchRequest& request, OnExit on_exit) override;
  void Adopt(const LaunchRequest& request, OnExit on_exit) override;
  std::string SnapshotPath(const std::string&, int64_t) const override { return ""; }
  void DropSnapshots(const std::string&, int64_t) override {}
  void Sweep(const std::function<bool(const std::string&, int64_t)>&) override {}
  // Ends the group as a killed mpirun would.
  void Kill(const std::string& job_id, int64_t generation) override;

  // The group ends. Nothing happens where it is not running.
  void Exit(const std::string& job_id, int64_t generation, const core::GroupExit& exit);
  // The newest launch of the job with at least this generation; waits for it, nullopt after 10 s.
  std::optional<LaunchRequest> AwaitLaunch(const std::string& job_id, int64_t generation);
  bool Killed(const std::string& job_id, int64_t generation) const;
  // What Adopt finds: true (the default) a group that runs, false one that is gone.
  void FindGroups(bool found) { find_groups_ = found; }
  // What the next Launch answers.
  void FailNextLaunch(absl::Status status);

 private:
  using Key = std::pair<std::string, int64_t>;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Key, OnExit> running_;
  std::vector<LaunchRequest> launches_;
  std::vector<Key> killed_;
  bool find_groups_ = true;
  absl::Status next_ = absl::OkStatus();
};

}  // namespace lockstep::launch
