// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/worker/far_device.h"
#include "tests/unit/worker/measure/measured_devices.h"

namespace lockstep {

namespace {

MeasuredDevice Cpu() {
  MeasuredDevice cpu = MeasureOnCpu(1);
  cpu.sizes = SmallSizes();
  return cpu;
}

// Its memory is not the host's.
MeasuredDevice Far() {
  MeasuredDevice far = Cpu();
  far.device = std::make_unique<FarDevice>();
  return far;
}

}  // namespace

const std::vector<NamedMeasured>& MeasuredDevices() {
  static const std::vector<NamedMeasured> devices{{"cpu", Cpu}, {"far", Far}};
  return devices;
}

}  // namespace lockstep
