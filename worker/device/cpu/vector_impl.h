// SPDX-License-Identifier: Apache-2.0
// Vec<T>: 64 bytes of T in whatever registers the instruction set has. Included only inside
// a kernel set's namespace.

template <typename T>
struct Vec {
  static constexpr int kLanes = 64 / sizeof(T);
  typedef T Raw __attribute__((vector_size(64), aligned(sizeof(T)), may_alias));
  Raw v;

  static LOCKSTEP_INLINE Vec Load(const T* p) { return {*reinterpret_cast<const Raw*>(p)}; }
  // The first `count` lanes, 0 in the others.
  static LOCKSTEP_INLINE Vec LoadFirst(const T* p, int64_t count) {
    Vec r{};
    for (int64_t i = 0; i < count; ++i) r.v[i] = p[i];
    return r;
  }
  static LOCKSTEP_INLINE Vec Broadcast(T x) { return {x - Raw{}}; }
  LOCKSTEP_INLINE void Store(T* p) const { *reinterpret_cast<Raw*>(p) = v; }
  LOCKSTEP_INLINE void StoreFirst(T* p, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) p[i] = v[i];
  }
  LOCKSTEP_INLINE void MultiplyAdd(const Vec& a, const Vec& b) { v += a.v * b.v; }
};

// to[c * to_stride + r] = from[r * stride + c] for so many rows and columns, at most a vector's; zeros behind the rows
// up to a whole vector, and where `columns` end perhaps too.
template <typename T>
LOCKSTEP_INLINE void Turn(const T* from, int64_t stride, int64_t rows, int64_t columns, T* to, int64_t to_stride) {
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r) to[c * to_stride + r] = from[r * stride + c];
    for (int64_t r = rows; r < Vec<T>::kLanes; ++r) to[c * to_stride + r] = T(0);
  }
}
