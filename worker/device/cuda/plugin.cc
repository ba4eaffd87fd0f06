// SPDX-License-Identifier: Apache-2.0
// The one function that the library shows.
#include "worker/device/plugin.h"

#include <string_view>

#include "worker/device/cuda/cuda_device.h"
#include "worker/device/cuda/cuda_info.h"

extern "C" __attribute__((visibility("default"))) const lockstep::DevicePlugin* lockstep_device_plugin(
    const char* build) {
  static constexpr lockstep::DevicePlugin kPlugin{
      .list = &lockstep::cuda::ListGpus, .make = &lockstep::cuda::MakeDevice, .stream = &lockstep::cuda::StreamOf};
  return std::string_view(build) == LOCKSTEP_DEVICE_BUILD ? &kPlugin : nullptr;
}
