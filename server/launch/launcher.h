// SPDX-License-Identifier: Apache-2.0
// How worker groups are started and ended.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "server/core/job.h"

namespace lockstep::launch {

struct LaunchRequest {
  std::string job_id;
  int64_t generation = 0;
  core::JobShape shape;
  // Exists and belongs to this generation alone.
  std::string run_dir;
  // Where the workers open their sessions: "127.0.0.1:4321" or "unix:/path".
  std::string coordinator_address;
  // The generation whose snapshot it starts from; 0: none.
  int64_t keep_snapshot = 0;
  // What the job wants to run on: "auto", "cpu" or "cuda".
  std::string device = "auto";
  // Workers of a host may share its GPUs.
  bool share_devices = false;
};

// Thread-safe.
class Launcher {
 public:
  using OnExit = std::function<void(const core::GroupExit&)>;

  virtual ~Launcher() = default;
  // Starts a group. `on_exit` is called once, from another thread, when all of it is gone; never after
  // the launcher is destroyed, and never where Launch fails.
  virtual absl::Status Launch(const LaunchRequest& request, OnExit on_exit) = 0;
  // Takes a group up again that an earlier coordinator launched. `on_exit` is called as for Launch, at
  // once where the group is gone.
  virtual void Adopt(const LaunchRequest& request, OnExit on_exit) = 0;
  // Ends a group for certain, at once. Nothing happens where there is none.
  virtual void Kill(const std::string& job_id, int64_t generation) = 0;
  // Where the generation keeps its snapshots in shared memory; empty: nowhere.
  virtual std::string SnapshotPath(const std::string& job_id, int64_t generation) const = 0;
  // Removes the job's snapshots, all but one generation's (0: all).
  virtual void DropSnapshots(const std::string& job_id, int64_t keep_generation) = 0;
  // Removes what groups that are gone left in shared memory: where `is_leftover` says so of a job and
  // generation (0: its snapshots).
  virtual void Sweep(const std::function<bool(const std::string& job_id, int64_t generation)>& is_leftover) = 0;
};

}  // namespace lockstep::launch
