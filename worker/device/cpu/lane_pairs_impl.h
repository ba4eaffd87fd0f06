// SPDX-License-Identifier: Apache-2.0
// Numbers as words of two bfloat16. Included only inside a kernel set's namespace.

// The 16 numbers rounded, one in each word's lower half.
LOCKSTEP_INLINE __m512i Halves(const float* x) {
  return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(x))));
}

void PairChannels(const float* x, int64_t places, int64_t channels, float* words) {
  for (int64_t p = 0; p < places; ++p) {
    int64_t c = 0;
    for (; c + 2 <= channels; c += 2, x += 2 * kLanes, words += kLanes) {
      const __m512i pair = _mm512_or_si512(Halves(x), _mm512_slli_epi32(Halves(x + kLanes), 16));
      _mm512_storeu_si512(words, pair);
    }
    if (c == channels) continue;
    _mm512_storeu_si512(words, Halves(x));
    x += kLanes;
    words += kLanes;
  }
}

// Of 16 numbers the first eight words become pairs of neighbouring samples, the others zero.
LOCKSTEP_INLINE void PairSamples(const float* x, float* words) {
  const auto halves = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(x)));
  _mm512_storeu_si512(words, _mm512_zextsi256_si512(halves));
}

constexpr bool kPairs = true;
LOCKSTEP_INLINE void CopyFactors(const float* x, int64_t floats, float* to) {
  for (int64_t i = 0; i < floats; i += kLanes) PairSamples(x + i, to + i);
}
LOCKSTEP_INLINE void TransposeFactors(const float* x, int64_t rows, float* to, int64_t to_step) {
  alignas(64) float words[kLanes * kLanes];
  for (int64_t r = 0; r < rows; ++r) PairSamples(x + r * kLanes, words + r * kLanes);
  TransposeLanes(words, kLanes, rows, to, to_step, kLanes / 2);
}

// As LanePack, of two channels at a time.
void PairPack(const LaneConv& c, const float* kernel, const LaneKernelStrides& s, float* packed) {
  for (int64_t g = 0; g < FilterGroups(c.filters); ++g) {
    const FilterGroup group = GroupOf(c.filters, g);
    for (int64_t p = 0; p < c.size[0]; ++p) {
      for (int64_t q = 0; q < c.size[1]; ++q) {
        for (int64_t k = 0; k < c.channels; k += 2) {
          const float* from = kernel + group.first * s.filter + k * s.channel + p * s.row + q * s.column;
          for (int64_t f = 0; f < group.count; ++f, from += s.filter) {
            const uint32_t low = Bf16Of(*from), high = k + 1 < c.channels ? Bf16Of(from[s.channel]) : 0;
            *packed++ = std::bit_cast<float>(low | high << 16);
          }
        }
      }
    }
  }
}
