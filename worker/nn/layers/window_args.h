// SPDX-License-Identifier: Apache-2.0
// A layer's window as the device takes it.
#pragma once

#include "common/model/layers/window.h"
#include "worker/device/device.h"

namespace lockstep {

WindowArgs ArgsOf(const WindowPlan& window);

}  // namespace lockstep
