// SPDX-License-Identifier: Apache-2.0
// Ranges for NVIDIA's profilers, by NVTX.
#pragma once

#include <memory>

#include "worker/device/range_marker.h"

namespace lockstep::cuda {

// See DevicePlugin::ranges.
std::unique_ptr<RangeMarker> MakeRangeMarker();

}  // namespace lockstep::cuda
