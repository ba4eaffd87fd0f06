// SPDX-License-Identifier: Apache-2.0
// Lets tests that read and write a device's memory directly run on one that has memory of its own.
#pragma once

#include <memory>

#include "worker/device/device.h"

namespace lockstep {

// Does on `device` what it is asked to, on copies: every buffer is memory of the host with a twin on the device. What a
// call names is copied there before it, with all of its buffer, and back behind it. Memory that was not allocated here
// is copied too. Slow, and the same bits.
std::unique_ptr<Device> MakeStagedDevice(std::unique_ptr<Device> device);

}  // namespace lockstep
