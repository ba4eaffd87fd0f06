// SPDX-License-Identifier: Apache-2.0
// Uploads: copies from the host to a device beside the device's other work, so that a batch arrives while the one
// before it is worked on.
#pragma once

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "worker/device/device.h"

namespace lockstep {

// Of the device's thread. What goes wrong is told by Device::status.
class Uploads {
 public:
  virtual ~Uploads() = default;
  // Memory of the host that the device reads by itself, zeroed; freed with the object, once no copy needs it.
  // RESOURCE_EXHAUSTED where there is not enough.
  virtual absl::StatusOr<std::unique_ptr<Buffer>> AllocateHost(size_t bytes) = 0;
  // A copy from such memory, which begins once all is over that the device was asked for until now, and does not keep
  // what it is asked for next.
  virtual void Begin(void* to, const void* from, size_t bytes) = 0;
  // What the device is asked for from now on comes after all copies so far.
  virtual void Join() = 0;
  // Waits: what was copied from may be overwritten.
  virtual void Finish() = 0;
};

}  // namespace lockstep
