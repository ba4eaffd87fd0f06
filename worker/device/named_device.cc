// SPDX-License-Identifier: Apache-2.0
#include "worker/device/named_device.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/device/device_loader.h"

namespace lockstep {

namespace {

absl::StatusOr<ChosenDevice> OpenGpu(int index, const GpuSource& gpus) {
  const GpuList list = gpus.list();
  if (list.gpus.empty()) return absl::NotFoundError(list.none_because);
  if (index >= static_cast<int>(list.gpus.size())) {
    return absl::NotFoundError(absl::StrCat("the GPUs here are 0 to ", list.gpus.size() - 1));
  }
  const GpuInfo& gpu = list.gpus[static_cast<size_t>(index)];
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Device> device, gpus.make(gpu.index));
  return ChosenDevice{std::move(device), gpu, ""};
}

}  // namespace

absl::StatusOr<DeviceName> ParseDeviceName(absl::string_view text) {
  const std::string name = absl::AsciiStrToUpper(text);
  if (name == "AUTO") return DeviceName{DeviceWish::kAuto, 0};
  if (name == "CPU") return DeviceName{DeviceWish::kCpu, 0};
  if (name == "CUDA") return DeviceName{DeviceWish::kCuda, 0};
  int index = 0;
  if (absl::StartsWith(name, "CUDA:") && absl::SimpleAtoi(name.substr(5), &index) && index >= 0) {
    return DeviceName{DeviceWish::kCuda, index};
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is no device; give AUTO, CPU, CUDA, or CUDA:1 for the GPU that `lockstep devices` ",
                   "calls cuda:1"));
}

absl::StatusOr<ChosenDevice> OpenNamedDevice(const DeviceName& name, int threads) {
  return OpenNamedDevice(name, threads, {&ListGpus, &MakeCudaDevice});
}

absl::StatusOr<ChosenDevice> OpenNamedDevice(const DeviceName& name, int threads, const GpuSource& gpus) {
  std::string why;
  if (name.wish != DeviceWish::kCpu) {
    absl::StatusOr<ChosenDevice> gpu = OpenGpu(name.index, gpus);
    if (gpu.ok()) return gpu;
    why = std::string(gpu.status().message());
  }
  if (name.wish != DeviceWish::kCuda) return ChosenDevice{MakeCpuDevice(threads), std::nullopt, why};
  return absl::FailedPreconditionError(absl::StrCat("GPU ", name.index, " is asked for: ", why,
                                                    "; `lockstep devices` says what this machine has, and AUTO takes "
                                                    "the CPU instead"));
}

}  // namespace lockstep
