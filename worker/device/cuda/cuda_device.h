// SPDX-License-Identifier: Apache-2.0
// The device of one GPU.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

// See DevicePlugin::make.
absl::StatusOr<std::unique_ptr<Device>> MakeDevice(int index);
// See DevicePlugin::stream.
void* StreamOf(const Device& device);

}  // namespace lockstep::cuda
