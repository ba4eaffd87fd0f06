// SPDX-License-Identifier: Apache-2.0
#include "tests/conformance/devices.h"
#include "tests/gpu/gpu.h"
#include "worker/device/cuda/cuda_device.h"

namespace lockstep {

std::unique_ptr<Device> MakeGpu() { return cuda::MakeDevice(0).value(); }

namespace conformance {

const std::vector<TestDevice>& Devices() {
  static const std::vector<TestDevice> devices{
      {.name = "cuda_emulated", .make = MakeGpu},
      {.name = "cpu", .make = [] { return MakeCpuDevice(1); }},
  };
  return devices;
}

}  // namespace conformance

}  // namespace lockstep
