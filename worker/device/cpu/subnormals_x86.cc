// SPDX-License-Identifier: Apache-2.0
#include <pmmintrin.h>
#include <xmmintrin.h>

#include "worker/device/cpu/subnormals.h"

namespace lockstep::cpu {

void FlushSubnormals() {
  _MM_SET_FLUSH_ZERO_MODE(_MM_FLUSH_ZERO_ON);
  _MM_SET_DENORMALS_ZERO_MODE(_MM_DENORMALS_ZERO_ON);
}

}  // namespace lockstep::cpu
