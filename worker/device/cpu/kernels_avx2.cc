// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include <utility>

#include "worker/device/cpu/kernels.h"
#include "worker/device/math/activations.h"
#include "worker/device/math/optimizers.h"
#include "worker/device/math/random.h"

#define LOCKSTEP_KERNEL_VECTOR "worker/device/cpu/vector_avx2.h"

namespace lockstep::kernels_avx2 {
#include "worker/device/cpu/kernels.inc"
}  // namespace lockstep::kernels_avx2
