// SPDX-License-Identifier: Apache-2.0
// A GPU for tests that train as a worker does: the machine's first, or an emulated one (tests/emulator).
#pragma once

#include <memory>

#include "worker/device/device.h"

namespace lockstep {

// There is one; else the test program has ended before.
std::unique_ptr<Device> MakeGpu();

}  // namespace lockstep
