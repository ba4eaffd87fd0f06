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
  // Not null: its row p is b's row rows[p].
  const uint16_t* rows = nullptr;
};

// visit(row, vector), unrolled.
template <int kRows, int kVectors, typename Visit>
LOCKSTEP_INLINE void ForTile(Visit visit) {
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) visit(r, v);
  }
}

// Addresses of a tile's rows, which are equally far apart. The processor adds once, twice, four or eight times a
// register by itself, so that a third of the rows needs a register of its own: all of 14 fit.
template <typename T, int kRows>
struct RowPointers {
  static constexpr int kBases = (kRows + 2) / 3;
  const char* base[kBases];
  int64_t stride;

  LOCKSTEP_INLINE RowPointers(const T* a, int64_t row) : stride(row * static_cast<int64_t>(sizeof(T))) {
#pragma GCC unroll 8
    for (int b = 0; b < kBases; ++b) base[b] = reinterpret_cast<const char*>(a) + 3 * b * stride;
  }
  static constexpr int BaseOf(int row) {
    for (int b = 0; 3 * b < row; ++b) {
      const int left = row - 3 * b;
      if (left == 1 || left == 2 || left == 4 || left == 8) return b;
    }
    return row / 3;
  }
  template <int kRow>
  LOCKSTEP_INLINE T At() const {
    constexpr int kBase = BaseOf(kRow);
    return *reinterpret_cast<const T*>(base[kBase] + (kRow - 3 * kBase) * stride);
  }
  LOCKSTEP_INLINE void Advance(int64_t elements) {
#pragma GCC unroll 8
    for (int b = 0; b < kBases; ++b) base[b] += elements * static_cast<int64_t>(sizeof(T));
  }
};

template <typename T, int kVectors>
LOCKSTEP_INLINE void AddProducts(const Vec<T>& x, const Vec<T> (&row)[kVectors], Vec<T> (&sum)[kVectors]) {
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) sum[v].MultiplyAdd(x, row[v]);
}
// sum[r][v] += row r of a times row[v].
template <typename T, int kRows, int kVectors, int... kRow>
LOCKSTEP_INLINE void AddProducts(const RowPointers<T, kRows>& a, const Vec<T> (&row)[kVectors],
                                 Vec<T> (&sum)[kRows][kVectors], std::integer_sequence<int, kRow...>) {
  (AddProducts(Vec<T>::Broadcast(a.template At<kRow>()), row, sum[kRow]), ...);
}

// Not inlined: the addresses of one tile are all that the registers hold. kListed: the panel's rows are.
template <typename T, int kRows, int kVectors, bool kListed>
[[gnu::noinline]] void Tile(const T* a, int64_t a_row, int64_t a_column, const Panel<T>& panel, T* out, int64_t n,
                            bool add) {
  constexpr int kLanes = Vec<T>::kLanes;
  // Columns of the last vector.
  const int64_t last = panel.columns - (kVectors - 1) * kLanes;
  const bool whole = last == kLanes;
  Vec<T> sum[kRows][kVectors];
  if (add) {
    ForTile<kRows, kVectors>([&](int r, int v) {
      const T* from = out + r * n + v * kLanes;
      sum[r][v] = whole || v + 1 < kVectors ? Vec<T>::Load(from) : Vec<T>::LoadFirst(from, last);
    });
  } else {
    ForTile<kRows, kVectors>([&](int r, int v) { sum[r][v] = Vec<T>::Broadcast(T(0)); });
  }
  RowPointers<T, kRows> rows(a, a_row);
  const T* b = panel.b;
  for (int64_t p = 0; p < panel.depth; ++p, b += panel.stride) {
    if constexpr (kListed) b = panel.b + panel.rows[p] * panel.stride;
    Vec<T> row[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) row[v] = Vec<T>::Load(b + v * kLanes);
    AddProducts(rows, row, sum, std::make_integer_sequence<int, kRows>());
    rows.Advance(a_column);
  }
  if (whole) {
    ForTile<kRows, kVectors>([&](int r, int v) {
      sum[r][v].Store(out + v * kLanes);
      if (v + 1 == kVectors) out += n;
    });
  } else {
    ForTile<kRows, kVectors>([&](int r, int v) {
      T* to = out + r * n + v * kLanes;
      v + 1 < kVectors ? sum[r][v].Store(to) : sum[r][v].StoreFirst(to, last);
    });
  }
}

// `tiles` tiles of `rows` rows each, at most kRows; the row behind them.
template <typename T, int kRows, int kVectors, bool kListed>
LOCKSTEP_INLINE int64_t Tiles(int64_t rows, int64_t tiles, int64_t i, const T* a, const GemmProblem<T>& g,
                              const Panel<T>& panel, T* out, bool add) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return Tiles<T, kRows - 1, kVectors, kListed>(rows, tiles, i, a, g, panel, out, add);
  }
  for (; tiles > 0; --tiles, i += kRows) {
    Tile<T, kRows, kVectors, kListed>(a + i * g.a_row, g.a_row, g.a_column, panel, out + i * g.n, g.n, add);
  }
  return i;
}

// sum += what each of the panel's rows is multiplied with, times it.
template <typename T, int kDepth, int... kColumn>
LOCKSTEP_INLINE void AddRows(const RowPointers<T, kDepth>& a, const Vec<T> (&b)[kDepth], Vec<T>& sum,
                             std::integer_sequence<int, kColumn...>) {
  (sum.MultiplyAdd(Vec<T>::Broadcast(a.template At<kColumn>()), b[kColumn]), ...);
}

// A panel one vector wide and `panel.depth` = kDepth deep stays in the registers, and the rows pass by.
template <typename T, int kDepth>
LOCKSTEP_INLINE void ShortRows(const GemmProblem<T>& g, const T* a, const Panel<T>& panel, T* out, bool add) {
  if constexpr (kDepth > 1) {
    if (panel.depth < kDepth) return ShortRows<T, kDepth - 1>(g, a, panel, out, add);
  }
  const int64_t columns = panel.columns, n = g.n, step = g.a_row;
  const bool whole = columns == Vec<T>::kLanes;
  Vec<T> b[kDepth];
#pragma GCC unroll 16
  for (int p = 0; p < kDepth; ++p) b[p] = Vec<T>::Load(panel.b + p * panel.stride);
  RowPointers<T, kDepth> row(a, g.a_column);
  for (const T* const end = out + g.m * n; out != end; out += n, row.Advance(step)) {
    Vec<T> sum = Vec<T>::Broadcast(T(0));
    if (add) sum = whole ? Vec<T>::Load(out) : Vec<T>::LoadFirst(out, columns);
    AddRows(row, b, sum, std::make_integer_sequence<int, kDepth>());
    whole ? sum.Store(out) : sum.StoreFirst(out, columns);
  }
}

// In as few tiles as there are, of about the same height: a low tile waits for its own sums.
template <typename T, int kVectors, bool kListed>
void PanelRows(const GemmProblem<T>& g, const T* a, const Panel<T>& panel, T* out, bool add) {
  constexpr int kMost = kVectors == 1 ? kTileRowsOfOne : kTileRowsOfTwo;
  if constexpr (kVectors == 1 && !kListed) {
    if (panel.depth <= kShortDepth && g.m > kMost) return ShortRows<T, kShortDepth>(g, a, panel, out, add);
  }
  const int64_t tiles = (g.m + kMost - 1) / kMost, low = g.m / tiles, higher = g.m % tiles;
  const int64_t i = Tiles<T, kMost, kVectors, kListed>(low + 1, higher, 0, a, g, panel, out, add);
  Tiles<T, kMost, kVectors, kListed>(low, tiles - higher, i, a, g, panel, out, add);
}

// Copies columns [j, j + columns) of rows [p, p + depth) of op(b), padded with zeros to `width`.
template <typename T>
void Pack(const GemmProblem<T>& g, int64_t p, int64_t depth, int64_t j, int64_t columns, int64_t width) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  for (int64_t c = 0; c < width; c += kLanes) {
    const int64_t count = columns - c < kLanes ? columns - c : kLanes;
    T* to = g.pack + c;
    if (g.transpose_b) {
      const T* from = g.b + (j + c) * g.k + p;
      for (int64_t q = 0; q < depth; q += kLanes, to += kLanes * width) {
        Turn(from + q, g.k, count, depth - q < kLanes ? depth - q : kLanes, to, width);
      }
    } else {
      for (int64_t q = p; q < p + depth; ++q, to += width) {
        const T* const from = g.b + (g.b_rows == nullptr ? q : g.b_rows[q]) * g.n + j + c;
        (count == kLanes ? Vec<T>::Load(from) : Vec<T>::LoadFirst(from, count)).Store(to);
      }
    }
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
      Panel<T> panel{g.b + j, g.n, depth, columns, g.b_rows == nullptr ? nullptr : g.b_rows + p};
      if (g.transpose_b || columns < width) {
        Pack(g, p, depth, j, columns, width);
        panel = {g.pack, width, depth, columns};
      } else if (g.b_rows == nullptr) {
        panel.b += p * g.n;
      }
      const T* a = g.a + p * g.a_column;
      if (panel.rows != nullptr) {
        width > kLanes ? PanelRows<T, 2, true>(g, a, panel, g.out + j, add)
                       : PanelRows<T, 1, true>(g, a, panel, g.out + j, add);
      } else {
        width > kLanes ? PanelRows<T, 2, false>(g, a, panel, g.out + j, add)
                       : PanelRows<T, 1, false>(g, a, panel, g.out + j, add);
      }
      j += columns;
    }
  }
}
