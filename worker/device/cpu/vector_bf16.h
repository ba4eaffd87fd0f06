// SPDX-License-Identifier: Apache-2.0
// Vec<float> whose factors are words of two bfloat16 each: MultiplyAdd adds both products of a lane. What is loaded,
// broadcast and stored is bits. Included only inside a kernel set's namespace.

template <>
struct Vec<float> {
  static constexpr int kLanes = 16;
  __m512 v;

  static LOCKSTEP_INLINE Vec Load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static LOCKSTEP_INLINE Vec Broadcast(float x) { return {_mm512_set1_ps(x)}; }
  LOCKSTEP_INLINE void Store(float* p) const { _mm512_storeu_ps(p, v); }
  LOCKSTEP_INLINE void MultiplyAdd(const Vec& a, const Vec& b) {
    v = _mm512_dpbf16_ps(v, reinterpret_cast<__m512bh>(a.v), reinterpret_cast<__m512bh>(b.v));
  }
};
