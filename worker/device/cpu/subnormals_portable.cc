// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/subnormals.h"

namespace lockstep::cpu {

// No standard call sets this; such processors compute with subnormal numbers.
void FlushSubnormals() {}

}  // namespace lockstep::cpu
