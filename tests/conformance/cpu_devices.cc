// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "absl/strings/str_cat.h"
#include "tests/conformance/devices.h"
#include "worker/device/cpu/kernels.h"

namespace lockstep::conformance {

const std::vector<TestDevice>& Devices() {
  static const std::vector<TestDevice> devices = [] {
    std::vector<TestDevice> all{{"cpu", [] { return MakeCpuDevice(1); }}};
    // Each set of kernels is a device of its own; the first is the one that "cpu" chooses.
    std::array<KernelChoice, 8> sets{};
    const int count = AvailableKernels(sets.data(), static_cast<int>(sets.size()));
    for (int i = 1; i < count; ++i) {
      const KernelChoice set = sets[static_cast<size_t>(i)];
      all.push_back({absl::StrCat("cpu_", set.name), [set] { return MakeCpuDeviceWith(set, 1); }});
    }
    return all;
  }();
  return devices;
}

}  // namespace lockstep::conformance
