// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "worker/comm/sum.h"

namespace lockstep::sum_base {
#include "worker/comm/sum.inc"
}  // namespace lockstep::sum_base
