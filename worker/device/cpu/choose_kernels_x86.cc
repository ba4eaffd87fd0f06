// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/kernels.h"

namespace lockstep::cpu {

const KernelSet& ChooseKernels() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma")) {
    return kAvx512Kernels;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kAvx2Kernels;
  return kBaselineKernels;
}

}  // namespace lockstep::cpu
