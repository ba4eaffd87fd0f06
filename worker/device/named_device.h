// SPDX-License-Identifier: Apache-2.0
// The device that a job or a person asks for by name.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/device/device.h"
#include "worker/device/plugin.h"

namespace lockstep {

// A job's resources.device. kAuto: a GPU where there is one that works, else the CPU.
enum class DeviceWish { kAuto, kCpu, kCuda };

struct ChosenDevice {
  std::unique_ptr<Device> device;
  // Nothing: it is the CPU.
  std::optional<GpuInfo> gpu;
  // Where the wish was kAuto and it is the CPU: why.
  std::string why_cpu;
};

// Where GPUs come from; device_loader.h, or a test.
struct GpuSource {
  std::function<GpuList()> list;
  std::function<absl::StatusOr<std::unique_ptr<Device>>(int index)> make;
};

// What stands behind --device.
struct DeviceName {
  DeviceWish wish = DeviceWish::kAuto;
  // Of the GPU, where the wish is kCuda: as `lockstep devices` counts.
  int index = 0;
};
// AUTO, CPU, CUDA or CUDA:<index>, in any case. INVALID_ARGUMENT, with what may be given.
absl::StatusOr<DeviceName> ParseDeviceName(absl::string_view text);

// `threads`: of the CPU. FAILED_PRECONDITION where a GPU is asked for and cannot be had, in a sentence for people.
absl::StatusOr<ChosenDevice> OpenNamedDevice(const DeviceName& name, int threads);
absl::StatusOr<ChosenDevice> OpenNamedDevice(const DeviceName& name, int threads, const GpuSource& gpus);

}  // namespace lockstep
