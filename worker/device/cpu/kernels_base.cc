// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "worker/device/cpu/kernels.h"
#include "worker/device/math/activations.h"
#include "worker/device/math/optimizers.h"
#include "worker/device/math/random.h"

#define LOCKSTEP_KERNEL_VECTOR "worker/device/cpu/vector_base.h"

namespace lockstep::kernels_base {
#include "worker/device/cpu/kernels.inc"
}  // namespace lockstep::kernels_base
