// SPDX-License-Identifier: Apache-2.0
// The devices that the conformance tests run on. Who links them says which: cpu_devices.cc, or one of tests/emulator
// and tests/gpu.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "worker/device/device.h"

namespace lockstep::conformance {

// Its memory can be read and written directly, once a call has returned.
struct TestDevice {
  std::string name;
  std::function<std::unique_ptr<Device>()> make;
  // Rows come out with the same bits in a micro-batch of any size.
  bool splits_batches = true;
};

// The first one is what is tested; the others are compared with it.
const std::vector<TestDevice>& Devices();
inline std::unique_ptr<Device> MakeTestDevice() { return Devices()[0].make(); }

}  // namespace lockstep::conformance
