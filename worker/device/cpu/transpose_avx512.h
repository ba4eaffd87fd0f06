// SPDX-License-Identifier: Apache-2.0
// Included only inside a kernel set's namespace, after <immintrin.h>.

// Row i of the result is column i of the argument.
LOCKSTEP_INLINE void Transpose(__m512i (&r)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  // Lane l of r[4 g + q] now holds column 4 l + q of the rows 4 g to 4 g + 3.
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    const __m512i a = _mm512_shuffle_i32x4(r[q], r[4 + q], 0x88), b = _mm512_shuffle_i32x4(r[q], r[4 + q], 0xdd);
    const __m512i c = _mm512_shuffle_i32x4(r[8 + q], r[12 + q], 0x88);
    const __m512i d = _mm512_shuffle_i32x4(r[8 + q], r[12 + q], 0xdd);
    t[q] = _mm512_shuffle_i32x4(a, c, 0x88);
    t[8 + q] = _mm512_shuffle_i32x4(a, c, 0xdd);
    t[4 + q] = _mm512_shuffle_i32x4(b, d, 0x88);
    t[12 + q] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}

LOCKSTEP_INLINE __mmask16 FirstLanes(int64_t count) { return static_cast<__mmask16>((1U << count) - 1); }
