// SPDX-License-Identifier: Apache-2.0
// What GPUs there are, or why there are none.
#pragma once

#include <string>

#include "worker/device/plugin.h"

namespace lockstep::cuda {

// See DevicePlugin::list.
GpuList ListGpus();
// "NVIDIA H200, compute capability 9.0, driver 580.65.06, cuBLASLt 13.1.0, cuDNN 9.19.0".
std::string DescribeGpu(const GpuList& list, int index);
// "13.0" of 13000.
std::string CudaVersion(int version);

}  // namespace lockstep::cuda
