// SPDX-License-Identifier: Apache-2.0
// The one function that the library shows.
#include "worker/device/plugin.h"

#include <memory>
#include <string_view>

#include "worker/comm/nccl/reduce_ops.h"
#include "worker/device/cuda/cuda_device.h"
#include "worker/device/cuda/cuda_info.h"
#include "worker/device/cuda/ranges.h"
#include "worker/device/cuda/timer.h"

namespace {

absl::StatusOr<std::unique_ptr<lockstep::nccl::ReduceOps>> ReduceOpsOf(const lockstep::Device& device) {
  return lockstep::nccl::MakeCudaReduceOps(lockstep::cuda::StreamOf(device));
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const lockstep::DevicePlugin* lockstep_device_plugin(
    const char* build) {
  static constexpr lockstep::DevicePlugin kPlugin{.list = &lockstep::cuda::ListGpus,
                                                  .make = &lockstep::cuda::MakeDevice,
                                                  .stream = &lockstep::cuda::StreamOf,
                                                  .reduce_ops = &ReduceOpsOf,
                                                  .timer = &lockstep::cuda::MakeTimer,
                                                  .ranges = &lockstep::cuda::MakeRangeMarker};
  return std::string_view(build) == LOCKSTEP_DEVICE_BUILD ? &kPlugin : nullptr;
}
