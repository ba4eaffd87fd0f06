// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/worker/measure/measured_devices.h"

namespace lockstep {

const std::vector<NamedMeasured>& MeasuredDevices() {
  static const std::vector<NamedMeasured> devices{
      {"cuda", [] {
         MeasuredDevice gpu = OpenMeasuredDevice({DeviceWish::kCuda, 0}, 1).value();
         gpu.sizes = SmallSizes();
         return gpu;
       }}};
  return devices;
}

}  // namespace lockstep
