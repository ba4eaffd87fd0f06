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
};

// Thread-safe.
class Launcher {
 public:
  using OnExit = std::function<void(const core::GroupExit&)>;

  virtual ~Launcher() = default;
  // Starts a group. `on_exit` is called once, from another thread, when all of it is gone; never after
  // the launcher is destroyed, and never where Launch fails.
  virtual absl::Status Launch(const LaunchRequest& request, OnExit on_exit) = 0;
  // Ends a group for certain, within some seconds. Nothing happens where there is none.
  virtual void Kill(const std::string& job_id, int64_t generation) = 0;
};

}  // namespace lockstep::launch
