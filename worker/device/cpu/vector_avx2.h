// SPDX-License-Identifier: Apache-2.0
// Vec<float>: two registers, fused multiply-add. Included only inside a
// kernel set's namespace.

// Rows of a tile one and two vectors wide, as many as the registers hold.
constexpr int kTileRowsOfOne = 6;
constexpr int kTileRowsOfTwo = 2;
// Rows of a panel one vector wide that stay in the registers.
constexpr int kShortDepth = 4;

template <>
struct Vec<float> {
  static constexpr int kLanes = 16;
  __m256 low, high;

  static LOCKSTEP_INLINE Vec Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static LOCKSTEP_INLINE Vec LoadFirst(const float* p, int64_t count) {
    alignas(64) float whole[kLanes] = {};
    for (int64_t i = 0; i < count; ++i) whole[i] = p[i];
    return Load(whole);
  }
  static LOCKSTEP_INLINE Vec Broadcast(float x) {
    const __m256 b = _mm256_set1_ps(x);
    return {b, b};
  }
  LOCKSTEP_INLINE void Store(float* p) const {
    _mm256_storeu_ps(p, low);
    _mm256_storeu_ps(p + 8, high);
  }
  LOCKSTEP_INLINE void StoreFirst(float* p, int64_t count) const {
    alignas(64) float whole[kLanes];
    Store(whole);
    for (int64_t i = 0; i < count; ++i) p[i] = whole[i];
  }
  LOCKSTEP_INLINE void MultiplyAdd(const Vec& a, const Vec& b) {
    low = _mm256_fmadd_ps(a.low, b.low, low);
    high = _mm256_fmadd_ps(a.high, b.high, high);
  }
};
