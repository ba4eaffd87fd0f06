// SPDX-License-Identifier: Apache-2.0
// The devices on which these tests measure: host_devices.cc, or an emulated GPU (tests/emulator).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "worker/measure/measured_device.h"

namespace lockstep {

struct NamedMeasured {
  std::string name;
  // Of sizes that take a moment on any device.
  std::function<MeasuredDevice()> make;
};
const std::vector<NamedMeasured>& MeasuredDevices();

inline MeasuredSizes SmallSizes() {
  return {.peak_products = {4, 8}, .vector = 64, .matrix = 8, .product = 8, .table = {8}};
}

}  // namespace lockstep
