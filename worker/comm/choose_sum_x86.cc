// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "worker/comm/sum.h"

namespace lockstep {

const SumKernels& ChooseSum() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return sum_avx512::kKernels;
  if (__builtin_cpu_supports("avx2")) return sum_avx2::kKernels;
  return sum_base::kKernels;
}

void Pause() { _mm_pause(); }

}  // namespace lockstep
