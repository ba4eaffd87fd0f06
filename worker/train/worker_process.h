// SPDX-License-Identifier: Apache-2.0
// One rank from hello to goodbye.
#pragma once

#include <cstdint>
#include <string>

#include "worker/device/placement.h"
#include "worker/train/choose_device.h"

namespace lockstep {

struct WorkerOptions {
  // gRPC target of the coordinator.
  std::string coordinator;
  std::string job_id;
  int64_t generation = 0;
  int threads = 1;
  DeviceWish device = DeviceWish::kAuto;
  // The job's resources.share_devices.
  bool share_devices = false;
  // A file of failpoints, or empty.
  std::string failpoints;
  // As mpirun's environment gives them.
  int rank = 0;
  int world_size = 1;
  // Among the ranks of its host.
  LocalPlace place;
};

// Exit codes of a worker.
inline constexpr int kExitSucceeded = 0;
inline constexpr int kExitFailed = 1;
// The coordinator or a peer is gone; another launch may succeed.
inline constexpr int kExitLost = 75;

// Runs the rank and returns the process's exit code. What went wrong is reported to the coordinator
// and logged.
int RunWorker(const WorkerOptions& options);

}  // namespace lockstep
