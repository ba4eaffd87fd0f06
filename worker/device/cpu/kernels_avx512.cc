// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#define LOCKSTEP_KERNEL_SET kAvx512Kernels
#define LOCKSTEP_KERNEL_NAME "avx512"
#define LOCKSTEP_KERNEL_VECTOR "worker/device/cpu/vector_avx512.h"
#include "worker/device/cpu/kernels_impl.h"
