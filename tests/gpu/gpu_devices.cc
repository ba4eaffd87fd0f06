// SPDX-License-Identifier: Apache-2.0
#include "tests/conformance/devices.h"
#include "tests/gpu/gpu.h"
#include "tests/gpu/staged_device.h"
#include "worker/device/device_loader.h"

namespace lockstep {

std::unique_ptr<Device> MakeGpu() { return MakeCudaDevice(0).value(); }

namespace conformance {

const std::vector<TestDevice>& Devices() {
  static const std::vector<TestDevice> devices{
      // The libraries choose an algorithm by the whole shape.
      {.name = "cuda", .make = [] { return MakeStagedDevice(MakeGpu()); }, .splits_batches = false},
      {.name = "cpu", .make = [] { return MakeCpuDevice(1); }},
  };
  return devices;
}

}  // namespace conformance

}  // namespace lockstep
