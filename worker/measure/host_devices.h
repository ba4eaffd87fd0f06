// SPDX-License-Identifier: Apache-2.0
// What this machine can train on.
#pragma once

#include "worker/device/cpu/cpu_info.h"
#include "worker/device/plugin.h"

namespace lockstep {

struct HostDevices {
  CpuInfo cpu;
  GpuList gpus;
};
HostDevices ListHostDevices();

}  // namespace lockstep
