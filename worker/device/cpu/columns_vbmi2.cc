// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "worker/device/cpu/cpu_columns.h"
#include "worker/device/cpu/kernels.h"

namespace lockstep::kernels_avx512_vbmi2 {

namespace {

constexpr int64_t kBytes = 64;
constexpr int64_t kMaxBlocks = ColumnList::kMaxWidth / kBytes;

struct Block {
  // Of the bytes that exist, and of those that are not zero in some row.
  __mmask64 lanes, there;
  // Columns that are there before.
  int64_t before;
};

LOCKSTEP_INLINE __m512i LoadBlock(const uint8_t* row, int64_t c, __mmask64 lanes) {
  return _mm512_maskz_loadu_epi8(lanes, row + c);
}

// Their numbers behind the `count` before. Whole registers are written where there is room for them.
int64_t ListBlock(__mmask64 there, int64_t c, int64_t count, const GatherColumnsProblem& g) {
  alignas(kBytes) static constexpr uint8_t kPlaces[kBytes] = {
      0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
      22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
      44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
  const __m512i places = _mm512_maskz_compress_epi8(there, _mm512_load_si512(kPlaces));
  const __m512i first = _mm512_set1_epi16(static_cast<int16_t>(c));
  const auto put = [&](__m256i half, int64_t at) {
    const int64_t room = g.width - at;
    const auto lanes = room >= 32 ? ~__mmask32{0} : static_cast<__mmask32>((uint64_t{1} << (room < 0 ? 0 : room)) - 1);
    _mm512_mask_storeu_epi16(g.columns + at, lanes, _mm512_add_epi16(first, _mm512_cvtepu8_epi16(half)));
  };
  put(_mm512_castsi512_si256(places), count);
  put(_mm512_extracti64x4_epi64(places, 1), count + 32);
  return count + __builtin_popcountll(there);
}

// A row's bytes, as many as columns are there, to floats.
LOCKSTEP_INLINE void Convert(const uint8_t* bytes, int64_t count, float scale, float* to) {
  const __m512 by = _mm512_set1_ps(scale);
  const auto floats = [&](int64_t i) {
    const __m512i x = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i)));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(x), by);
  };
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) _mm512_storeu_ps(to + i, floats(i));
  if (i < count) _mm512_mask_storeu_ps(to + i, static_cast<__mmask16>((1U << (count - i)) - 1), floats(i));
}

int64_t GatherColumns(const GatherColumnsProblem& g) {
  Block blocks[kMaxBlocks];
  const int64_t count_of_blocks = (g.width + kBytes - 1) / kBytes;
  int64_t count = 0;
  for (int64_t b = 0; b < count_of_blocks; ++b) {
    const int64_t c = b * kBytes;
    const __mmask64 lanes = ~uint64_t{0} >> (kBytes - Least(g.width - c, kBytes));
    __m512i any = _mm512_setzero_si512();
    for (int64_t i = 0; i < g.rows; ++i)
      any = _mm512_or_si512(any, LoadBlock(g.table + g.indices[i] * g.width, c, lanes));
    blocks[b] = {lanes, _mm512_test_epi8_mask(any, any), count};
    count = ListBlock(blocks[b].there, c, count, g);
  }
  uint8_t bytes[ColumnList::kMaxWidth + kBytes];
  for (int64_t i = 0; i < g.rows; ++i) {
    const uint8_t* const row = g.table + g.indices[i] * g.width;
    for (int64_t b = 0; b < count_of_blocks; ++b) {
      const __m512i v = LoadBlock(row, b * kBytes, blocks[b].lanes);
      _mm512_storeu_si512(bytes + blocks[b].before, _mm512_maskz_compress_epi8(blocks[b].there, v));
    }
    Convert(bytes, count, g.scale, g.out + i * count);
  }
  return count;
}

}  // namespace

const GatherColumnsFunction kGatherColumns = GatherColumns;

}  // namespace lockstep::kernels_avx512_vbmi2
