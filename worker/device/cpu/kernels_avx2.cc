// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#define LOCKSTEP_KERNEL_SET kAvx2Kernels
#define LOCKSTEP_KERNEL_NAME "avx2"
#define LOCKSTEP_KERNEL_VECTOR "worker/device/cpu/vector_avx2.h"
#include "worker/device/cpu/kernels_impl.h"
