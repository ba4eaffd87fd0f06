// SPDX-License-Identifier: Apache-2.0
// Vec<float>: one register, fused multiply-add. Included only inside a
// kernel set's namespace.

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
