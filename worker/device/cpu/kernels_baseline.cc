// SPDX-License-Identifier: Apache-2.0
#define LOCKSTEP_KERNEL_SET kBaselineKernels
#define LOCKSTEP_KERNEL_NAME "baseline"
#define LOCKSTEP_KERNEL_VECTOR "worker/device/cpu/vector_baseline.h"
#include "worker/device/cpu/kernels_impl.h"
