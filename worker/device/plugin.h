// SPDX-License-Identifier: Apache-2.0
// What a device plug-in offers: a shared library with one C function that gives this table. C++ types pass through it,
// so library and program are of one build; the function says so where they are not.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/device/device.h"
#include "worker/device/device_timer.h"
#include "worker/device/range_marker.h"

namespace lockstep {

namespace nccl {
// worker/comm/nccl/reduce_ops.h
class ReduceOps;
}  // namespace nccl

// One GPU as the plug-in sees it.
struct GpuInfo {
  // The number that MakeDevice takes: among those that CUDA_VISIBLE_DEVICES leaves.
  int index = 0;
  // "NVIDIA H200".
  std::string name;
  // The same for the same piece of hardware, whatever its number: "GPU-...".
  std::string uuid;
  int64_t memory_bytes = 0;
  // Compute capability.
  int major = 0;
  int minor = 0;
  int multiprocessors = 0;
  // "0000:17:00.0".
  std::string pci;
};

struct GpuList {
  std::vector<GpuInfo> gpus;
  // "580.65.06", or empty where the system does not say.
  std::string driver_release;
  // Versions, "13.0"; the driver's is the newest CUDA that it serves, and empty where there is none.
  std::string driver;
  std::string runtime;
  std::string blas;
  std::string dnn;
  // Where there are no GPUs: why, in a sentence without a full stop.
  std::string none_because;
};

struct DevicePlugin {
  // Which GPUs there are. Never fails: see GpuList::none_because. Any thread.
  GpuList (*list)();
  // A device on GPU `index`. UNAVAILABLE where it cannot be used, RESOURCE_EXHAUSTED where its memory is full.
  absl::StatusOr<std::unique_ptr<Device>> (*make)(int index);
  // The cudaStream_t on which a device that `make` gave does everything; the device keeps it.
  void* (*stream)(const Device& device);
  // What sums of gradients over NCCL need of such a device, which outlives it; on the thread that made the device.
  // INTERNAL where the GPU fails.
  absl::StatusOr<std::unique_ptr<nccl::ReduceOps>> (*reduce_ops)(const Device& device);
  // Marks in the stream of such a device, which outlives the timer; on the thread that made the device. INTERNAL where
  // the GPU fails.
  absl::StatusOr<std::unique_ptr<DeviceTimer>> (*timer)(const Device& device, int capacity);
  // Ranges for a profiler; null where none watches this process. Any thread.
  std::unique_ptr<RangeMarker> (*ranges)();
};

// The name of the C function.
inline constexpr char kDevicePluginFunction[] = "lockstep_device_plugin";

// Null where the plug-in is not of the caller's build: LOCKSTEP_DEVICE_BUILD, which changes with the compiler and with
// every change of this header and of those that it is made of.
using DevicePluginFunction = const DevicePlugin* (*)(const char* build);

}  // namespace lockstep
