// SPDX-License-Identifier: Apache-2.0
// A device with what it takes to measure it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/device/device_timer.h"
#include "worker/device/named_device.h"
#include "worker/device/range_marker.h"

namespace lockstep {

// Large enough for a device to show what it can do, and small enough for its memory.
struct MeasuredSizes {
  // Sides of the square products among which the peak is looked for.
  std::vector<int64_t> peak_products;
  // Numbers of the vectors by which the moving of memory is measured: far more than caches hold.
  int64_t vector = 0;
  // Sides of one product of a vector and a matrix, and of two matrices.
  int64_t matrix = 0;
  int64_t product = 0;
  // What a table of products goes through.
  std::vector<int64_t> table;
};

struct MeasuredDevice {
  std::unique_ptr<Device> device;
  bool gpu = false;
  MeasuredSizes sizes;
  // Of this device, which outlives the timer.
  std::function<absl::StatusOr<std::unique_ptr<DeviceTimer>>(int capacity)> make_timer;
  // Null: no profiler watches this process.
  std::unique_ptr<RangeMarker> ranges;
};

MeasuredDevice MeasureOnCpu(int threads);
// `threads`: of the CPU. Errors as of OpenNamedDevice.
absl::StatusOr<MeasuredDevice> OpenMeasuredDevice(const DeviceName& name, int threads);

}  // namespace lockstep
