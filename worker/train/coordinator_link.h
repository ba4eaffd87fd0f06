// SPDX-License-Identifier: Apache-2.0
// What the trainer needs of the coordinator. GrpcSession is the real one; tests use a local one.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "lockstep/v1/worker_service.pb.h"

namespace lockstep {

enum class StopRequest { kNone, kStop, kStopWithCheckpoint };

class CoordinatorLink {
 public:
  virtual ~CoordinatorLink() = default;

  // Returns once this rank holds a lease on `step`, and asks ahead for more. Nearly always returns at
  // once. ABORTED where the session is gone.
  virtual absl::Status AwaitLease(int64_t step) = 0;

  // The newest wish of the coordinator. Cheap; any thread.
  virtual StopRequest stop_request() const = 0;

  // Queues a report; never waits for the network. Order is kept.
  virtual void Report(lockstep::v1::SessionRequest report) = 0;
};

}  // namespace lockstep
