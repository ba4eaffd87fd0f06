// SPDX-License-Identifier: Apache-2.0
// The loops of LargeGemm for AVX-512. Included only inside a kernel set's namespace, after
// transpose_avx512.h and Unit:
//   kFloats          floats in a unit
//   MultiplyAdd      c + a b for 16 units
//   FromRow          units p, p + 1, ... of one row, of which `left` floats exist; the rest are 0
//   FromColumns      unit p of 16 neighbouring columns; `left` rows exist from p on

// to[u * width + r] = unit u of row r, of `rows` <= 16 that are `stride` apart. Each store writes 16 units; the next
// one covers what is too much, and behind the last there is room.
LOCKSTEP_INLINE void PackRows(const float* from, int64_t stride, int64_t rows, int64_t depth, int64_t width,
                              uint32_t* to) {
  for (int64_t p = 0; p < depth; p += 16 * Unit::kFloats, to += 16 * width) {
    __m512i r[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      r[i] = i < rows ? Unit::FromRow(from + i * stride + p, depth - p) : _mm512_setzero_si512();
    }
    Transpose(r);
    const int64_t units = (depth - p + Unit::kFloats - 1) / Unit::kFloats;
    if (units >= 16) {
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + i * width, r[i]);
    } else {
      for (int64_t i = 0; i < units; ++i) _mm512_storeu_si512(to + i * width, r[i]);
    }
  }
}

// The same of columns: to[u * width + c] = unit u of column c.
LOCKSTEP_INLINE void PackColumns(const float* from, int64_t stride, int64_t columns, int64_t depth, int64_t width,
                                 uint32_t* to) {
  const __mmask16 lanes = FirstLanes(columns);
  for (int64_t p = 0; p < depth; p += Unit::kFloats, to += width) {
    _mm512_storeu_si512(to, Unit::FromColumns(from + p * stride, stride, depth - p, lanes));
  }
}

// What is done with a tile's sums.
struct TileOutput {
  float* out;
  int64_t stride;
  // Lanes of the last vector that exist.
  __mmask16 last;
  // Begin with what is there.
  bool add;
  const float* bias;
  bool relu;
  // Where the next tile's outputs lie, or null.
  const float* next;
};

template <int kRows, int kVectors>
void LargeTile(const uint32_t* a, const uint32_t* b, int64_t units, const TileOutput& o) {
  const __mmask16 all = 0xffff;
  __m512 sum[kRows][kVectors];
  // Outputs come from memory while this tile is worked out.
  if (o.next != nullptr) {
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) _mm_prefetch(o.next + r * o.stride + 16 * v, _MM_HINT_T1);
    }
  }
#pragma GCC unroll 14
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const __mmask16 lanes = v == kVectors - 1 ? o.last : all;
      sum[r][v] = o.add ? _mm512_maskz_loadu_ps(lanes, o.out + r * o.stride + 16 * v) : _mm512_setzero_ps();
    }
  }
  for (int64_t u = 0; u < units; ++u, a += kLargeTileRows, b += kLargeTileColumns) {
    __m512i row[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) row[v] = _mm512_load_si512(b + 16 * v);
#pragma GCC unroll 14
    for (int r = 0; r < kRows; ++r) {
      const __m512i x = _mm512_set1_epi32(static_cast<int>(a[r]));
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[r][v] = Unit::MultiplyAdd(x, row[v], sum[r][v]);
    }
  }
#pragma GCC unroll 14
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const __mmask16 lanes = v == kVectors - 1 ? o.last : all;
      if (o.bias != nullptr) sum[r][v] = _mm512_add_ps(sum[r][v], _mm512_maskz_loadu_ps(lanes, o.bias + 16 * v));
      // In this order of operands what is not a number stays so.
      if (o.relu) sum[r][v] = _mm512_max_ps(_mm512_setzero_ps(), sum[r][v]);
      if (v < kVectors - 1) {
        _mm512_storeu_ps(o.out + r * o.stride + 16 * v, sum[r][v]);
      } else {
        _mm512_mask_storeu_ps(o.out + r * o.stride + 16 * v, lanes, sum[r][v]);
      }
    }
  }
}

template <int kVectors>
void LargeTileOf(int64_t rows, const uint32_t* a, const uint32_t* b, int64_t units, const TileOutput& o) {
  using Function = void (*)(const uint32_t*, const uint32_t*, int64_t, const TileOutput&);
  static constexpr Function kTiles[] = {LargeTile<1, kVectors>,  LargeTile<2, kVectors>,  LargeTile<3, kVectors>,
                                        LargeTile<4, kVectors>,  LargeTile<5, kVectors>,  LargeTile<6, kVectors>,
                                        LargeTile<7, kVectors>,  LargeTile<8, kVectors>,  LargeTile<9, kVectors>,
                                        LargeTile<10, kVectors>, LargeTile<11, kVectors>, LargeTile<12, kVectors>,
                                        LargeTile<13, kVectors>, LargeTile<14, kVectors>};
  kTiles[rows - 1](a, b, units, o);
}

// Rows [i, i + rows) and depth [p, p + depth) of op(a), one tile's rows behind the other.
void PackBlock(const LargeGemmProblem& g, int64_t i, int64_t rows, int64_t p, int64_t depth, int64_t units) {
  for (int64_t r = 0; r < rows; r += kLargeTileRows) {
    const int64_t count = Least(rows - r, kLargeTileRows);
    uint32_t* to = g.pack + r * units;
    if (g.transpose_a) {
      PackColumns(g.a + p * g.a_stride + i + r, g.a_stride, count, depth, kLargeTileRows, to);
    } else {
      PackRows(g.a + (i + r) * g.a_stride + p, g.a_stride, count, depth, kLargeTileRows, to);
    }
  }
}

// A panel of b: columns [j, j + columns) and depth [p, p + depth) of op(b). It is packed slice by slice while the tiles
// of the panel before are worked out, each slice asked for one tile ahead: rows of b lie far apart, which the machine
// does not foresee, and too many of them at once would drive each other out of the cache.
struct Panel {
  int64_t p, depth;
  int64_t j, columns;
  uint32_t* packed;

  static constexpr int64_t kSlice = 16 * Unit::kFloats;
  int64_t slices() const { return (depth + kSlice - 1) / kSlice; }
};

void PackSlices(const LargeGemmProblem& g, const Panel& panel, int64_t first, int64_t end) {
  const int64_t from = first * Panel::kSlice, depth = Least(panel.depth, end * Panel::kSlice) - from;
  if (depth <= 0) return;
  for (int64_t c = 0; c < panel.columns; c += 16) {
    const int64_t count = Least(panel.columns - c, 16);
    uint32_t* to = panel.packed + first * 16 * kLargeTileColumns + c;
    if (g.transpose_b) {
      PackRows(g.b + (panel.j + c) * g.b_stride + panel.p + from, g.b_stride, count, depth, kLargeTileColumns, to);
    } else {
      PackColumns(g.b + (panel.p + from) * g.b_stride + panel.j + c, g.b_stride, count, depth, kLargeTileColumns, to);
    }
  }
}

LOCKSTEP_INLINE void PrefetchSlices(const LargeGemmProblem& g, const Panel& panel, int64_t first, int64_t end) {
  const int64_t from = first * Panel::kSlice, depth = Least(panel.depth, end * Panel::kSlice) - from;
  const int64_t rows = g.transpose_b ? panel.columns : depth, width = g.transpose_b ? depth : panel.columns;
  const float* b =
      g.b + (g.transpose_b ? panel.j * g.b_stride + panel.p + from : (panel.p + from) * g.b_stride + panel.j);
  for (int64_t r = 0; r < rows; ++r, b += g.b_stride) {
    for (int64_t c = 0; c < width; c += 16) _mm_prefetch(b + c, _MM_HINT_T1);
  }
}

// Rows [i, i + rows) of the outputs in one panel of columns; packs the next one where there is one.
void RunPanel(const LargeGemmProblem& g, int64_t i, int64_t rows, const Panel& panel, const Panel* next) {
  const int64_t units = (panel.depth + Unit::kFloats - 1) / Unit::kFloats;
  const int64_t tiles = (rows + kLargeTileRows - 1) / kLargeTileRows;
  const int64_t slices = (panel.slices() + tiles - 1) / tiles;
  const bool finishes = panel.p + panel.depth == g.k;
  TileOutput o{.out = g.out + i * g.out_stride + panel.j,
               .stride = g.out_stride,
               .last = FirstLanes(panel.columns > 16 ? panel.columns - 16 : panel.columns),
               .add = g.accumulate || panel.p > 0,
               .bias = finishes && g.bias != nullptr ? g.bias + panel.j : nullptr,
               .relu = finishes && g.relu,
               .next = nullptr};
  int64_t packed = 0;
  for (int64_t r = 0; r < rows; r += kLargeTileRows, o.out += kLargeTileRows * g.out_stride) {
    if (next != nullptr) {
      PrefetchSlices(g, *next, packed + slices, packed + 2 * slices);
      PackSlices(g, *next, packed, packed + slices);
      packed += slices;
    }
    o.next = rows - r >= 2 * kLargeTileRows ? o.out + kLargeTileRows * g.out_stride : nullptr;
    (panel.columns > 16 ? LargeTileOf<2> : LargeTileOf<1>)(Least(rows - r, kLargeTileRows), g.pack + r * units,
                                                           panel.packed, units, o);
  }
}

void RunLargeGemm(const LargeGemmProblem& g) {
  constexpr int64_t kDepth = kLargeDepth * Unit::kFloats;
  uint32_t* const panels = g.pack + kLargeBlockRows * kLargeDepth + 32;
  for (int64_t p = 0; p < g.k; p += kDepth) {
    const int64_t depth = Least(g.k - p, kDepth), units = (depth + Unit::kFloats - 1) / Unit::kFloats;
    for (int64_t i = 0; i < g.m; i += kLargeBlockRows) {
      const int64_t rows = Least(g.m - i, kLargeBlockRows);
      PackBlock(g, i, rows, p, depth, units);
      Panel panel{.p = p, .depth = depth, .j = 0, .columns = Least(g.n, kLargeTileColumns), .packed = panels};
      PackSlices(g, panel, 0, panel.slices());
      while (panel.columns > 0) {
        Panel next = panel;
        next.j += panel.columns;
        next.columns = Least(g.n - next.j, kLargeTileColumns);
        next.packed = panels + (panel.packed == panels ? kLargeTileColumns * kLargeDepth : 0);
        RunPanel(g, i, rows, panel, next.columns > 0 ? &next : nullptr);
        panel = next;
      }
    }
  }
}
