// SPDX-License-Identifier: Apache-2.0
// Dropout. The draws are those of common/rng.h, many blocks of the generator side by side. Included only inside a
// kernel set's namespace.

// Enough that the loop over them stays a loop, which is what the compiler makes vectors of.
constexpr int kPhiloxBlocks = 64;
constexpr int kPhiloxWords = 4 * kPhiloxBlocks;

// The words of blocks [first, first + 64) of the stream: those of Block(first), then of Block(first + 1), ...
LOCKSTEP_INLINE void PhiloxRun(const RngStream& stream, uint64_t first, uint32_t* __restrict words) {
  const uint64_t key = stream.seed ^ (static_cast<uint64_t>(stream.purpose) << 56);
  for (int i = 0; i < kPhiloxBlocks; ++i) {
    const uint64_t counter = first + static_cast<uint64_t>(i);
    uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32);
    uint32_t c2 = static_cast<uint32_t>(stream.stream), c3 = static_cast<uint32_t>(stream.stream >> 32);
    uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < kPhiloxRounds; ++round) {
      PhiloxRound(k0, k1, c0, c1, c2, c3);
      k0 += kPhiloxKeyStep0;
      k1 += kPhiloxKeyStep1;
    }
    words[4 * i] = c0;
    words[4 * i + 1] = c1;
    words[4 * i + 2] = c2;
    words[4 * i + 3] = c3;
  }
}

template <typename T>
void Dropout(const T* x, int64_t rows, int64_t width, T rate, const RngStream& stream, int64_t first_row, T* y) {
  const math::DropoutMath<T> math(rate);
  const int64_t n = rows * width;
  const uint64_t first = static_cast<uint64_t>(first_row * width);
  alignas(64) uint32_t words[kPhiloxWords];
  // Element 0 is word first % 4 of its block.
  for (int64_t at = -static_cast<int64_t>(first & 3); at < n; at += kPhiloxWords) {
    PhiloxRun(stream, (first + static_cast<uint64_t>(at)) >> 2, words);
    if (at >= 0 && at + kPhiloxWords <= n) {
      for (int k = 0; k < kPhiloxWords; ++k) y[at + k] = math(words[k], x[at + k]);
    } else {
      for (int64_t i = at < 0 ? 0 : at; i < n && i < at + kPhiloxWords; ++i) {
        y[i] = math(words[i - at], x[i]);
      }
    }
  }
}
