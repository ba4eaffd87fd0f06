// SPDX-License-Identifier: Apache-2.0
// Marks in a GPU's stream, by events.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "worker/device/device.h"
#include "worker/device/device_timer.h"

namespace lockstep::cuda {

// See DevicePlugin::timer.
absl::StatusOr<std::unique_ptr<DeviceTimer>> MakeTimer(const Device& device, int capacity);

}  // namespace lockstep::cuda
