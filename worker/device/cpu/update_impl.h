// SPDX-License-Identifier: Apache-2.0
// The passes of optimizers, and sums of squares. Included only inside a kernel set's namespace.

template <typename T, bool kDecays, typename Math>
void RunUpdate(const Math math, T decay, T* __restrict w, T* __restrict g, T* const* state, int64_t n) {
  T* __restrict s0 = state[0];
  T* __restrict s1 = state[1];
  T* __restrict s2 = state[2];
  for (int64_t i = 0; i < n; ++i) {
    T weight = w[i], gradient = g[i];
    if constexpr (kDecays) weight -= decay * weight;
    if constexpr (Math::kStates == 0) math(weight, gradient);
    if constexpr (Math::kStates == 1) math(weight, gradient, s0[i]);
    if constexpr (Math::kStates == 2) math(weight, gradient, s0[i], s1[i]);
    if constexpr (Math::kStates == 3) math(weight, gradient, s0[i], s1[i], s2[i]);
    if constexpr (Math::kWritesWeight) w[i] = weight;
    if constexpr (Math::kWritesGradient) g[i] = gradient;
  }
}

template <typename T>
void Update(UpdateRule rule, const UpdateArgs& args, T* w, T* g, T* const* state, int64_t n) {
  VisitUpdate<T>(rule, args, [&](const auto& math) {
    using Math = std::decay_t<decltype(math)>;
    if constexpr (Math::kWritesWeight && !Math::kWritesGradient) {
      if (args.decay != 0) return RunUpdate<T, true>(math, static_cast<T>(args.decay), w, g, state, n);
    }
    RunUpdate<T, false>(math, T(0), w, g, state, n);
  });
}

// Element i goes to sum i mod 16, whatever the instruction set; a square of floats is exact in double.
template <typename T>
double SumSquares(const T* x, int64_t n) {
  constexpr int64_t kLanes = 16;
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) {
      const double v = static_cast<double>(x[i + j]);
      lanes[j] += v * v;
    }
  }
  for (int64_t j = 0; i < n; ++i, ++j) lanes[j] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  return lanes[0];
}
