// SPDX-License-Identifier: Apache-2.0
// Matrix product for shapes where a library's packing costs more than it saves. Included only inside
// a kernel set's namespace.

// b of one panel: `lanes` columns, of which the first `columns` are wanted.
template <typename T>
struct Panel {
  const T* b;
  int64_t stride;
  int64_t depth;
  int64_t columns;
};

template <typename T, int kRows, int kVectors>
LOCKSTEP_INLINE void Tile(const T* a, int64_t a_row, int64_t a_column, const Panel<T>& panel, T* out, int64_t n,
                          bool add) {
  constexpr int kLanes = Vec<T>::kLanes;
  constexpr int kWidth = kLanes * kVectors;
  const bool whole = panel.columns == kWidth;
  alignas(64) T edge[kWidth] = {};
  Vec<T> sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const T* from = edge;
    if (add) {
      from = out + r * n;
      if (!whole) {
        for (int64_t j = 0; j < panel.columns; ++j) edge[j] = from[j];
        from = edge;
      }
    }
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[r][v] = Vec<T>::Load(from + v * kLanes);
  }
  const T* b = panel.b;
  for (int64_t p = 0; p < panel.depth; ++p, b += panel.stride, a += a_column) {
    Vec<T> row[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) row[v] = Vec<T>::Load(b + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec<T> x = Vec<T>::Broadcast(a[r * a_row]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[r][v].MultiplyAdd(x, row[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    T* to = whole ? out + r * n : edge;
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[r][v].Store(to + v * kLanes);
    if (!whole) {
      for (int64_t j = 0; j < panel.columns; ++j) out[r * n + j] = edge[j];
    }
  }
}

template <typename T, int kVectors>
void PanelRows(const GemmProblem<T>& g, const T* a, const Panel<T>& panel, T* out, bool add) {
  int64_t i = 0;
  for (; i + kMaxTileRows <= g.m; i += kMaxTileRows) {
    Tile<T, kMaxTileRows, kVectors>(a + i * g.a_row, g.a_row, g.a_column, panel, out + i * g.n, g.n, add);
  }
  if constexpr (kMaxTileRows > 4) {
    for (; i + 4 <= g.m; i += 4) {
      Tile<T, 4, kVectors>(a + i * g.a_row, g.a_row, g.a_column, panel, out + i * g.n, g.n, add);
    }
  }
  for (; i < g.m; ++i) Tile<T, 1, kVectors>(a + i * g.a_row, g.a_row, g.a_column, panel, out + i * g.n, g.n, add);
}

// Copies columns [j, j + columns) of rows [p, p + depth) of op(b), padded with zeros to `width`.
template <typename T>
void Pack(const GemmProblem<T>& g, int64_t p, int64_t depth, int64_t j, int64_t columns, int64_t width) {
  for (int64_t q = 0; q < depth; ++q) {
    T* to = g.pack + q * width;
    if (g.transpose_b) {
      const T* from = g.b + j * g.k + p + q;
      for (int64_t c = 0; c < columns; ++c) to[c] = from[c * g.k];
    } else {
      const T* from = g.b + (p + q) * g.n + j;
      for (int64_t c = 0; c < columns; ++c) to[c] = from[c];
    }
    for (int64_t c = columns; c < width; ++c) to[c] = T(0);
  }
}

template <typename T>
void Gemm(const GemmProblem<T>& g) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  if (g.k == 0 && !g.accumulate) {
    for (int64_t i = 0; i < g.m * g.n; ++i) g.out[i] = T(0);
  }
  for (int64_t p = 0; p < g.k; p += kGemmDepth) {
    const int64_t depth = g.k - p < kGemmDepth ? g.k - p : kGemmDepth;
    const bool add = g.accumulate || p > 0;
    for (int64_t j = 0; j < g.n;) {
      const int64_t left = g.n - j;
      const int64_t width = left > kLanes ? 2 * kLanes : kLanes;
      const int64_t columns = left < width ? left : width;
      Panel<T> panel{g.b + p * g.n + j, g.n, depth, columns};
      if (g.transpose_b || columns < width) {
        Pack(g, p, depth, j, columns, width);
        panel.b = g.pack;
        panel.stride = width;
      }
      const T* a = g.a + p * g.a_column;
      if (width > kLanes) {
        PanelRows<T, 2>(g, a, panel, g.out + j, add);
      } else {
        PanelRows<T, 1>(g, a, panel, g.out + j, add);
      }
      j += columns;
    }
  }
}
