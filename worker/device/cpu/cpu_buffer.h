// SPDX-License-Identifier: Apache-2.0
// Host memory as a device buffer.
#pragma once

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "worker/device/device.h"

namespace lockstep::cpu {

// Zeroed, on a 64-byte boundary. RESOURCE_EXHAUSTED where the machine cannot give as much.
absl::StatusOr<std::unique_ptr<Buffer>> AllocateHost(size_t bytes);

}  // namespace lockstep::cpu
