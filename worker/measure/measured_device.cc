// SPDX-License-Identifier: Apache-2.0
#include "worker/measure/measured_device.h"

#include <utility>

#include "common/status_macros.h"
#include "worker/device/device_loader.h"

namespace lockstep {

namespace {

// Twice a side: from `first` to `last`.
std::vector<int64_t> Doubling(int64_t first, int64_t last) {
  std::vector<int64_t> sides;
  for (int64_t n = first; n <= last; n *= 2) sides.push_back(n);
  return sides;
}

}  // namespace

MeasuredDevice MeasureOnCpu(int threads) {
  return {.device = MakeCpuDevice(threads),
          .gpu = false,
          // Short products find a free moment on a machine that others use too.
          .sizes = {.peak_products = Doubling(64, 1024),
                    .vector = int64_t{1} << 24,
                    .matrix = 4096,
                    .product = 1024,
                    .table = Doubling(32, 2048)},
          .make_timer = [](int capacity) -> absl::StatusOr<std::unique_ptr<DeviceTimer>> {
            return MakeHostTimer(capacity);
          },
          .ranges = nullptr};
}

absl::StatusOr<MeasuredDevice> OpenMeasuredDevice(const DeviceName& name, int threads) {
  LOCKSTEP_ASSIGN_OR_RETURN(ChosenDevice chosen, OpenNamedDevice(name, threads));
  if (!chosen.gpu.has_value()) return MeasureOnCpu(threads);
  LOCKSTEP_ASSIGN_OR_RETURN(const DevicePlugin* const plugin, LoadCudaPlugin());
  const Device* const device = chosen.device.get();
  return MeasuredDevice{.device = std::move(chosen.device),
                        .gpu = true,
                        .sizes = {.peak_products = Doubling(1024, 8192),
                                  .vector = int64_t{1} << 27,
                                  .matrix = 16'384,
                                  .product = 4096,
                                  .table = Doubling(128, 8192)},
                        .make_timer = [plugin, device](int capacity) { return plugin->timer(*device, capacity); },
                        .ranges = plugin->ranges()};
}

}  // namespace lockstep
