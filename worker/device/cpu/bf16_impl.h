// SPDX-License-Identifier: Apache-2.0
// Rounding to BF16, the upper half of a float's bits. Included only inside a kernel set's namespace.

LOCKSTEP_INLINE uint32_t Bf16Of(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  // Rounding must not make an infinity of what is not a number.
  const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
  return is_nan ? (bits >> 16) | 0x40 : nearest;
}

template <typename T>
void ToBf16(const T* __restrict x, int64_t n, uint16_t* __restrict y) {
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<uint16_t>(Bf16Of(static_cast<float>(x[i])));
}

template <typename T>
void RoundBf16(const T* x, int64_t n, T* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<T>(std::bit_cast<float>(Bf16Of(static_cast<float>(x[i])) << 16));
}
