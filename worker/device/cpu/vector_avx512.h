// SPDX-License-Identifier: Apache-2.0
// Vec<float>: one register, fused multiply-add. Included only inside a
// kernel set's namespace.

#include "worker/device/cpu/transpose_avx512.h"

// Rows of a tile one and two vectors wide, as many as the registers hold.
constexpr int kTileRowsOfOne = 14;
constexpr int kTileRowsOfTwo = 12;
// Rows of a panel one vector wide that stay in the registers.
constexpr int kShortDepth = 14;

template <>
struct Vec<float> {
  static constexpr int kLanes = 16;
  __m512 v;

  static LOCKSTEP_INLINE Vec Load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static LOCKSTEP_INLINE Vec LoadFirst(const float* p, int64_t count) {
    return {_mm512_maskz_loadu_ps(static_cast<__mmask16>((1 << count) - 1), p)};
  }
  static LOCKSTEP_INLINE Vec Broadcast(float x) { return {_mm512_set1_ps(x)}; }
  LOCKSTEP_INLINE void Store(float* p) const { _mm512_storeu_ps(p, v); }
  LOCKSTEP_INLINE void StoreFirst(float* p, int64_t count) const {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1 << count) - 1), v);
  }
  LOCKSTEP_INLINE void MultiplyAdd(const Vec& a, const Vec& b) { v = _mm512_fmadd_ps(a.v, b.v, v); }
};

LOCKSTEP_INLINE void Turn(const float* from, int64_t stride, int64_t rows, int64_t columns, float* to,
                          int64_t to_stride) {
  const __mmask16 lanes = FirstLanes(columns);
  __m512i r[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    r[i] = i < rows ? _mm512_maskz_loadu_epi32(lanes, from + i * stride) : _mm512_setzero_si512();
  }
  Transpose(r);
  if (columns == 16) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + i * to_stride, r[i]);
  } else {
    for (int64_t i = 0; i < columns; ++i) _mm512_storeu_si512(to + i * to_stride, r[i]);
  }
}
