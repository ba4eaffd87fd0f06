// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "worker/device/cpu/kernels.h"
#include "worker/device/cpu/large_gemm.h"

namespace lockstep::kernels_avx512 {
namespace {

struct Unit {
  static constexpr int kFloats = 1;

  static LOCKSTEP_INLINE __m512 MultiplyAdd(__m512i a, __m512i b, __m512 c) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), c);
  }
  static LOCKSTEP_INLINE __m512i FromRow(const float* x, int64_t left) {
    if (left >= 16) return _mm512_loadu_si512(x);
    return _mm512_maskz_loadu_epi32(static_cast<__mmask16>((1U << left) - 1), x);
  }
  static LOCKSTEP_INLINE __m512i FromColumns(const float* x, int64_t, int64_t, __mmask16 lanes) {
    return _mm512_maskz_loadu_epi32(lanes, x);
  }
};

#include "worker/device/cpu/transpose_avx512.h"
// After it.
#include "worker/device/cpu/large_gemm_impl.h"

}  // namespace

void LargeGemm(const LargeGemmProblem& problem) { RunLargeGemm(problem); }

}  // namespace lockstep::kernels_avx512
