// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "worker/device/cpu/kernels.h"
#include "worker/device/cpu/sparse_gemm.h"

namespace lockstep::kernels_avx512_vbmi2 {

namespace {

static_assert(kSparseDepth == 64, "a panel is as deep as a register has bytes");

__mmask64 FirstBytes(int64_t count) { return ~uint64_t{0} >> (64 - count); }

// Appends those of a register's bytes that are not zero; says how many. Room for 64 is needed.
struct Appender {
  __m512i numbers;
  __m512 scale;

  explicit Appender(float by) : scale(_mm512_set1_ps(by)) {
    alignas(64) uint8_t each[64];
    for (int i = 0; i < 64; ++i) each[i] = static_cast<uint8_t>(i);
    numbers = _mm512_load_si512(each);
  }
  template <int kPart>
  LOCKSTEP_INLINE void Convert(__m512i bytes, float* to) const {
    const __m512i x = _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(bytes, kPart));
    _mm512_storeu_ps(to + 16 * kPart, _mm512_mul_ps(_mm512_cvtepi32_ps(x), scale));
  }
  LOCKSTEP_INLINE int32_t Append(__m512i bytes, float* values, uint8_t* places) const {
    const __mmask64 there = _mm512_test_epi8_mask(bytes, bytes);
    const int32_t count = __builtin_popcountll(there);
    const __m512i kept = _mm512_maskz_compress_epi8(there, bytes);
    _mm512_storeu_si512(places, _mm512_maskz_compress_epi8(there, numbers));
    Convert<0>(kept, values);
    Convert<1>(kept, values);
    if (count > 32) {
      Convert<2>(kept, values);
      Convert<3>(kept, values);
    }
    return count;
  }
};

int64_t ListRows(const ByteRows& x, int64_t width, int64_t i, int64_t rows, int64_t p, int64_t depth, float* values,
                 uint8_t* places, int32_t* counts) {
  const Appender append(x.scale);
  const __mmask64 lanes = FirstBytes(depth);
  int64_t used = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const uint8_t* const row = x.table + x.indices[i + r] * width + p;
    counts[r] = append.Append(_mm512_maskz_loadu_epi8(lanes, row), values + used, places + used);
    used += counts[r];
  }
  return used;
}

// Of 16 rows of 64 bytes: r[k] becomes column 16 l + k in each quarter l. Each pass turns the numbers of row and
// column, one behind the other, by one bit.
LOCKSTEP_INLINE void TransposeQuarters(__m512i (&r)[16]) {
#pragma GCC unroll 4
  for (int pass = 0; pass < 4; ++pass) {
    __m512i next[16];
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) {
      next[2 * k] = _mm512_unpacklo_epi8(r[k], r[k + 8]);
      next[2 * k + 1] = _mm512_unpackhi_epi8(r[k], r[k + 8]);
    }
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k) r[k] = next[k];
  }
}

// Columns [column, column + columns) of rows [first, first + rows), at most 64 of each, to turned[column][row]; zeros
// behind the rows.
void Transpose(const ByteRows& x, int64_t width, int64_t first, int64_t rows, int64_t column, int64_t columns,
               __m512i (&turned)[64]) {
  const __mmask64 lanes = FirstBytes(columns);
  __m512i quarters[4][16];
  for (int64_t q = 0; q < 4; ++q) {
#pragma GCC unroll 16
    for (int64_t k = 0; k < 16; ++k) {
      const int64_t row = 16 * q + k;
      quarters[q][k] = row < rows ? _mm512_maskz_loadu_epi8(lanes, x.table + x.indices[first + row] * width + column)
                                  : _mm512_setzero_si512();
    }
    TransposeQuarters(quarters[q]);
  }
  for (int k = 0; k < 16; ++k) {
    const __m512i low_a = _mm512_shuffle_i32x4(quarters[0][k], quarters[1][k], 0x44);
    const __m512i high_a = _mm512_shuffle_i32x4(quarters[0][k], quarters[1][k], 0xee);
    const __m512i low_b = _mm512_shuffle_i32x4(quarters[2][k], quarters[3][k], 0x44);
    const __m512i high_b = _mm512_shuffle_i32x4(quarters[2][k], quarters[3][k], 0xee);
    turned[k] = _mm512_shuffle_i32x4(low_a, low_b, 0x88);
    turned[16 + k] = _mm512_shuffle_i32x4(low_a, low_b, 0xdd);
    turned[32 + k] = _mm512_shuffle_i32x4(high_a, high_b, 0x88);
    turned[48 + k] = _mm512_shuffle_i32x4(high_a, high_b, 0xdd);
  }
}

int64_t ListColumns(const ByteRows& x, int64_t width, int64_t i, int64_t rows, int64_t p, int64_t depth, float* values,
                    uint8_t* places, int32_t* counts) {
  const Appender append(x.scale);
  int64_t used = 0;
  for (int64_t r = 0; r < rows; r += 64) {
    const int64_t count = Least(rows - r, 64);
    __m512i turned[64];
    Transpose(x, width, p, depth, i + r, count, turned);
    for (int64_t c = 0; c < count; ++c) {
      counts[r + c] = append.Append(turned[c], values + used, places + used);
      used += counts[r + c];
    }
  }
  return used;
}

}  // namespace

const ByteLists kByteLists = {ListRows, ListColumns};

}  // namespace lockstep::kernels_avx512_vbmi2
