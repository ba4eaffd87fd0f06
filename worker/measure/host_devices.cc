// SPDX-License-Identifier: Apache-2.0
#include "worker/measure/host_devices.h"

#include "worker/device/device_loader.h"

namespace lockstep {

HostDevices ListHostDevices() { return {HostCpu(), ListGpus()}; }

}  // namespace lockstep
