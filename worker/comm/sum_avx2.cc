// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "worker/comm/sum.h"

namespace lockstep::sum_avx2 {
#include "worker/comm/sum.inc"
}  // namespace lockstep::sum_avx2
