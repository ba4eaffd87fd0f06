// SPDX-License-Identifier: Apache-2.0
// What the lane kernels do to vectors besides products. Included only inside a kernel set's namespace.

// A list without functions of its own: one of those could be linked into code for a lesser machine.
template <typename T, size_t kSize>
struct Table {
  T at[kSize == 0 ? 1 : kSize];
};

// f(out, ...) on each register of a vector, or on both of two.
template <typename V, typename F>
LOCKSTEP_INLINE V Each(const V& a, const V& b, const V& c, F f) {
  V out;
  if constexpr (requires { out.low; }) {
    f(out.low, a.low, b.low, c.low);
    f(out.high, a.high, b.high, c.high);
  } else {
    f(out.v, a.v, b.v, c.v);
  }
  return out;
}

#define LOCKSTEP_EACH(formula)                                                                \
  [](auto& out, const auto& a, const auto& b, const auto& c) __attribute__((always_inline)) { \
    using R = std::remove_reference_t<decltype(out)>;                                         \
    static_cast<void>(a), static_cast<void>(b), static_cast<void>(c);                         \
    const R zero{};                                                                           \
    static_cast<void>(zero);                                                                  \
    out = formula;                                                                            \
  }

LOCKSTEP_INLINE Vec<float> Sum(const Vec<float>& x, const Vec<float>& y) { return Each(x, y, y, LOCKSTEP_EACH(a + b)); }
LOCKSTEP_INLINE Vec<float> Difference(const Vec<float>& x, const Vec<float>& y) {
  return Each(x, y, y, LOCKSTEP_EACH(a - b));
}
LOCKSTEP_INLINE Vec<float> Quotient(const Vec<float>& x, const Vec<float>& y) {
  return Each(x, y, y, LOCKSTEP_EACH(a / b));
}
LOCKSTEP_INLINE void AddTo(const Vec<float>& x, float* to) { Sum(Vec<float>::Load(to), x).Store(to); }
// The larger one; a NaN stays.
LOCKSTEP_INLINE Vec<float> Larger(const Vec<float>& value, const Vec<float>& most) {
  return Each(value, most, most, LOCKSTEP_EACH((a > b) | (a != a) ? a : b));
}
// z where x is y and else 0, and the other way round.
LOCKSTEP_INLINE Vec<float> WhereSame(const Vec<float>& x, const Vec<float>& y, const Vec<float>& z) {
  return Each(x, y, z, LOCKSTEP_EACH(a == b ? c : zero));
}
LOCKSTEP_INLINE Vec<float> WhereOther(const Vec<float>& x, const Vec<float>& y, const Vec<float>& z) {
  return Each(x, y, z, LOCKSTEP_EACH(a == b ? zero : c));
}
// As ReluMath says it; Gated is x times the gradient.
LOCKSTEP_INLINE Vec<float> Relu(const Vec<float>& x) { return Each(x, x, x, LOCKSTEP_EACH(a < zero ? zero : a)); }
LOCKSTEP_INLINE Vec<float> Gated(const Vec<float>& x, const Vec<float>& y) {
  return Each(x, y, y, LOCKSTEP_EACH(a * (b > zero ? zero + 1.0f : zero)));
}
#undef LOCKSTEP_EACH

// to[l * to_step + r] = from[r * from_step + l] for l < columns, r < rows; zeros for the other r < 16.
LOCKSTEP_INLINE void TransposeLanes(const float* from, int64_t from_step, int64_t rows, float* to, int64_t to_step,
                                    int64_t columns = kLanes) {
  typedef float Quad __attribute__((vector_size(16), aligned(4), may_alias));
  for (int64_t r = 0; r < kLanes; r += 4) {
    for (int64_t l = 0; l < columns; l += 4) {
      Quad a[4];
#pragma GCC unroll 4
      for (int64_t k = 0; k < 4; ++k) {
        a[k] = r + k < rows ? *reinterpret_cast<const Quad*>(from + (r + k) * from_step + l) : Quad{};
      }
      const Quad b0 = __builtin_shuffle(a[0], a[1], (__attribute__((vector_size(16))) int){0, 4, 1, 5});
      const Quad b1 = __builtin_shuffle(a[0], a[1], (__attribute__((vector_size(16))) int){2, 6, 3, 7});
      const Quad b2 = __builtin_shuffle(a[2], a[3], (__attribute__((vector_size(16))) int){0, 4, 1, 5});
      const Quad b3 = __builtin_shuffle(a[2], a[3], (__attribute__((vector_size(16))) int){2, 6, 3, 7});
      const auto store = [&](int64_t k, Quad q) { *reinterpret_cast<Quad*>(to + (l + k) * to_step + r) = q; };
      store(0, __builtin_shuffle(b0, b2, (__attribute__((vector_size(16))) int){0, 1, 4, 5}));
      store(1, __builtin_shuffle(b0, b2, (__attribute__((vector_size(16))) int){2, 3, 6, 7}));
      store(2, __builtin_shuffle(b1, b3, (__attribute__((vector_size(16))) int){0, 1, 4, 5}));
      store(3, __builtin_shuffle(b1, b3, (__attribute__((vector_size(16))) int){2, 3, 6, 7}));
    }
  }
}

// The lanes' sum: the upper half on the lower one, until one is left.
LOCKSTEP_INLINE float LaneSum(const Vec<float>& x) {
  alignas(64) float lanes[kLanes];
  x.Store(lanes);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

// out[row * step + i] += the lanes' sum of x[row][i].
LOCKSTEP_INLINE void AddLanes(const float* x, int64_t rows, int64_t n, float* out, int64_t step) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < n; ++i, x += kLanes) out[r * step + i] += LaneSum(Vec<float>::Load(x));
  }
}

// out[i] += the lanes' sum of the sum of x[row][i] over the rows, row k to sum k mod 4.
LOCKSTEP_INLINE void AddColumns(const float* x, int64_t rows, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    Vec<float> sums[4];
    for (Vec<float>& sum : sums) sum = Vec<float>::Broadcast(0.0f);
    for (int64_t r = 0; r < rows; ++r) sums[r % 4] = Sum(sums[r % 4], Vec<float>::Load(x + (r * n + i) * kLanes));
    out[i] += LaneSum(Sum(Sum(sums[0], sums[1]), Sum(sums[2], sums[3])));
  }
}
