// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/worker/measure/measured_devices.h"
#include "worker/device/cuda/cuda_device.h"
#include "worker/device/cuda/timer.h"

namespace lockstep {

const std::vector<NamedMeasured>& MeasuredDevices() {
  static const std::vector<NamedMeasured> devices{
      {"cuda_emulated", [] {
         MeasuredDevice gpu{
             .device = cuda::MakeDevice(0).value(), .gpu = true, .sizes = SmallSizes(), .make_timer = nullptr};
         gpu.make_timer = [device = gpu.device.get()](int capacity) { return cuda::MakeTimer(*device, capacity); };
         return gpu;
       }}};
  return devices;
}

}  // namespace lockstep
