// SPDX-License-Identifier: Apache-2.0
// When a device got to certain places in its stream: the clock of every measurement.
#pragma once

#include <memory>
#include <span>

#include "absl/status/statusor.h"

namespace lockstep {

// Of the device's thread.
class DeviceTimer {
 public:
  virtual ~DeviceTimer() = default;

  // Marks at most so many between two calls of Read.
  virtual int capacity() const = 0;
  // Enqueues a mark behind all that was enqueued before it, and does not wait. Allocates nothing.
  virtual void Mark() = 0;
  // Waits for the marks since the last call. For each, in order, the seconds since the first one that this timer ever
  // made; they never fall. Valid until the next call. INTERNAL where the device failed, or where there were more marks
  // than fit.
  virtual absl::StatusOr<std::span<const double>> Read() = 0;
};

// Of a device that is done with a call when it returns: the CPU. The host's monotonic clock.
std::unique_ptr<DeviceTimer> MakeHostTimer(int capacity);

}  // namespace lockstep
