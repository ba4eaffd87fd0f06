// SPDX-License-Identifier: Apache-2.0
// What the trainer needs of the coordinator. GrpcSession is the real one; tests use a local one.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "absl/status/status.h"
#include "lockstep/v1/worker_service.pb.h"

namespace lockstep {

enum class StopRequest { kNone, kStop, kStopWithCheckpoint };

// What the trainer's thread is at, for the coordinator's watchdog. Written by it, read by others.
struct Progress {
  std::atomic<int64_t> count{0};
  std::atomic<lockstep::v1::Heartbeat::Phase> phase{lockstep::v1::Heartbeat::PHASE_STARTUP};
  // 99th percentile of a step's seconds.
  std::atomic<double> step_seconds{0};

  // Something got done.
  void Advance() { count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }
};

class CoordinatorLink {
 public:
  virtual ~CoordinatorLink() = default;

  // Returns once this rank holds a lease on `step`, and asks ahead for more. Nearly always returns at
  // once; goes on waiting while the coordinator is away. ABORTED where this rank is not wanted any more.
  virtual absl::Status AwaitLease(int64_t step) = 0;

  // The newest wish of the coordinator. Cheap; any thread.
  virtual StopRequest stop_request() const = 0;

  // Queues a report and returns its number; never waits for the network. Order is kept, and each is
  // stored exactly once. Any thread.
  virtual int64_t Report(lockstep::v1::SessionRequest report) = 0;

  // Reports up to this number are stored.
  virtual int64_t acknowledged() const = 0;
  // Waits until they are; false where they are not within `timeout`.
  virtual bool AwaitStored(int64_t report, std::chrono::milliseconds timeout) = 0;

  // For a commit that was not sent yet: it no longer tells of a snapshot. False where it may have been sent.
  virtual bool WithdrawSnapshot(int64_t report) = 0;

  virtual Progress& progress() = 0;
};

}  // namespace lockstep
