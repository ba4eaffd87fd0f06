// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "worker/device/cpu/kernels.h"
#include "worker/device/cpu/large_gemm.h"

namespace lockstep::kernels_avx512_bf16 {
namespace {

// The instructions take the smallest numbers (below 2^-126) for 0.
struct Unit {
  static constexpr int kFloats = 2;

  static LOCKSTEP_INLINE __m512 MultiplyAdd(__m512i a, __m512i b, __m512 c) {
    return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  static LOCKSTEP_INLINE __m512i Rounded(__m512 low, __m512 high) {
    return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
  }
  static LOCKSTEP_INLINE __m512i FromRow(const float* x, int64_t left) {
    if (left >= 32) return Rounded(_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16));
    const uint32_t there = (1U << left) - 1;
    return Rounded(_mm512_maskz_loadu_ps(static_cast<__mmask16>(there), x),
                   _mm512_maskz_loadu_ps(static_cast<__mmask16>(there >> 16), x + 16));
  }
  static LOCKSTEP_INLINE __m512i FromColumns(const float* x, int64_t stride, int64_t left, __mmask16 lanes) {
    const __m512 low = _mm512_maskz_loadu_ps(lanes, x);
    const __m512 high = left > 1 ? _mm512_maskz_loadu_ps(lanes, x + stride) : _mm512_setzero_ps();
    const __m512i in_turn = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                             21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(in_turn, Rounded(low, high));
  }
};

#include "worker/device/cpu/transpose_avx512.h"
// After it.
#include "worker/device/cpu/large_gemm_impl.h"

}  // namespace

void LargeGemm(const LargeGemmProblem& problem) { RunLargeGemm(problem); }

}  // namespace lockstep::kernels_avx512_bf16
