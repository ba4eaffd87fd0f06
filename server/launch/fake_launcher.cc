// SPDX-License-Identifier: Apache-2.0
#include "server/launch/fake_launcher.h"

#include <algorithm>

namespace lockstep::launch {

absl::Status FakeLauncher::Launch(const LaunchRequest& request, OnExit on_exit) {
  const std::lock_guard lock(mutex_);
  if (absl::Status status = std::exchange(next_, absl::OkStatus()); !status.ok()) return status;
  running_[{request.job_id, request.generation}] = std::move(on_exit);
  launches_.push_back(request);
  changed_.notify_all();
  return absl::OkStatus();
}

void FakeLauncher::Adopt(const LaunchRequest& request, OnExit on_exit) {
  if (!find_groups_) return on_exit({.exit_code = 1, .reported = false});
  const std::lock_guard lock(mutex_);
  running_[{request.job_id, request.generation}] = std::move(on_exit);
}

void FakeLauncher::Kill(const std::string& job_id, int64_t generation) {
  {
    const std::lock_guard lock(mutex_);
    killed_.emplace_back(job_id, generation);
  }
  Exit(job_id, generation, {.exit_code = 1, .killed = true});
}

void FakeLauncher::Exit(const std::string& job_id, int64_t generation, const core::GroupExit& exit) {
  OnExit on_exit;
  {
    const std::lock_guard lock(mutex_);
    const auto it = running_.find({job_id, generation});
    if (it == running_.end()) return;
    on_exit = std::move(it->second);
    running_.erase(it);
  }
  on_exit(exit);
}

std::optional<LaunchRequest> FakeLauncher::AwaitLaunch(const std::string& job_id, int64_t generation) {
  std::unique_lock lock(mutex_);
  std::optional<LaunchRequest> found;
  changed_.wait_for(lock, std::chrono::seconds(10), [&] {
    for (const LaunchRequest& launch : launches_) {
      if (launch.job_id == job_id && launch.generation >= generation) found = launch;
    }
    return found.has_value();
  });
  return found;
}

bool FakeLauncher::Killed(const std::string& job_id, int64_t generation) const {
  const std::lock_guard lock(mutex_);
  return std::find(killed_.begin(), killed_.end(), Key{job_id, generation}) != killed_.end();
}

void FakeLauncher::FailNextLaunch(absl::Status status) {
  const std::lock_guard lock(mutex_);
  next_ = std::move(status);
}

}  // namespace lockstep::launch
