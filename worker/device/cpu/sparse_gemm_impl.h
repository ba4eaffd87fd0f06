// SPDX-License-Identifier: Apache-2.0
// The loops of SparseGemm. Included only inside a kernel set's namespace, after Vec<float>, after
// kColumns, the columns of a panel, as many as the registers hold sums of a row, and after Entries:
//   Append           adds those of 16 floats, of which `count` exist, that are not zero; says how many

// Entries of rows [i, i + rows) of op(a) in the depth [p, p + depth) of one panel, behind those before.
struct Lists {
  SparseScratch* scratch;
  int64_t used = 0;

  LOCKSTEP_INLINE int32_t Append(const float* x, int64_t depth) {
    const int64_t before = used;
    for (int64_t q = 0; q < depth; q += 16) {
      used += Entries::Append(x + q, Least(depth - q, 16), static_cast<uint8_t>(q), scratch->values + used,
                              scratch->places + used);
    }
    return static_cast<int32_t>(used - before);
  }
};

void ListRows(const SparseGemmProblem& s, int64_t i, int64_t rows, int64_t p, int64_t depth, Lists& lists,
              int32_t* counts) {
  const LargeGemmProblem& g = s.product;
  if (s.bytes != nullptr) {
    lists.used += (g.transpose_a ? s.list->columns : s.list->rows)(*s.bytes, g.a_stride, g.first_row + i, rows, p,
                                                                   depth, lists.scratch->values + lists.used,
                                                                   lists.scratch->places + lists.used, counts);
    return;
  }
  if (!g.transpose_a) {
    for (int64_t r = 0; r < rows; ++r) counts[r] = lists.Append(g.a + (i + r) * g.a_stride + p, depth);
    return;
  }
  alignas(64) float turned[16][kSparseDepth];
  for (int64_t r = 0; r < rows; r += 16) {
    const int64_t count = Least(rows - r, 16);
    for (int64_t q = 0; q < depth; q += 16) {
      Turn(g.a + (p + q) * g.a_stride + i + r, g.a_stride, Least(depth - q, 16), count, &turned[0][q], kSparseDepth);
    }
    for (int64_t c = 0; c < count; ++c) counts[r + c] = lists.Append(turned[c], depth);
  }
}

// A panel of b: columns [j, j + columns) and depth [p, p + depth) of op(b).
struct SparsePanel {
  int64_t p, depth;
  int64_t j, columns;
};

constexpr int64_t kAskedFrom = int64_t{1} << 22;

// The panel behind this one; without columns where there is none.
SparsePanel Behind(const LargeGemmProblem& g, const SparsePanel& panel, int64_t first, int64_t end) {
  const int64_t p = panel.p + panel.depth;
  if (p < end) return {p, Least(end - p, kSparseDepth), panel.j, panel.columns};
  const int64_t j = panel.j + panel.columns;
  return {first, Least(end - first, kSparseDepth), j, Least(g.n - j, kColumns)};
}

// Zeros lie behind its columns up to a whole register.
void PackPanel(const SparseGemmProblem& s, const SparsePanel& panel) {
  const LargeGemmProblem& g = s.product;
  float* const packed = s.scratch->panel;
  for (int64_t c = 0; c < panel.columns; c += 16) {
    const int64_t count = Least(panel.columns - c, 16);
    if (g.transpose_b) {
      for (int64_t q = 0; q < panel.depth; q += 16) {
        Turn(g.b + (panel.j + c) * g.b_stride + panel.p + q, g.b_stride, count, Least(panel.depth - q, 16),
             packed + q * kColumns + c, kColumns);
      }
    } else {
      const float* from = g.b + panel.p * g.b_stride + panel.j + c;
      for (int64_t q = 0; q < panel.depth; ++q, from += g.b_stride) {
        (count == 16 ? Vec<float>::Load(from) : Vec<float>::LoadFirst(from, count)).Store(packed + q * kColumns + c);
      }
    }
  }
  if (s.round != nullptr) s.round(packed, panel.depth * kColumns, packed);
}

// Asks for the next panel's lines, some with each row that is worked out, where b is too large for the caches nearby.
struct NextPanel {
  const float* from = nullptr;
  int64_t stride = 0, rows = 0, width = 0, c = 0;

  LOCKSTEP_INLINE void Ask(int64_t lines) {
    for (; lines > 0 && rows > 0; --lines) {
      __builtin_prefetch(from + c, 0, 2);
      c += 16;
      if (c < width) continue;
      c = 0;
      from += stride;
      --rows;
    }
  }
};

NextPanel NextOf(const LargeGemmProblem& g, const SparsePanel& panel) {
  if (g.transpose_b) return {g.b + panel.j * g.b_stride + panel.p, g.b_stride, panel.columns, panel.depth};
  return {g.b + panel.p * g.b_stride + panel.j, g.b_stride, panel.depth, panel.columns};
}

// Where a row's sums are taken from and where they go, and how many of the last register's lanes there are.
struct SumRows {
  // Null: they begin at 0.
  const float* from;
  int64_t from_stride;
  int64_t from_last;
  float* to;
  int64_t to_stride;
  int64_t to_last;
};

// Each row's sums and its entries times their rows of the panel, kVectors registers wide.
template <int kVectors>
void AddEntries(int64_t rows, const int32_t* counts, const float* values, const uint8_t* places, const float* panel,
                SumRows sums, NextPanel next) {
  const int64_t lines = next.rows == 0 ? 0 : (next.rows * ((next.width + 15) / 16) + rows - 1) / rows;
  for (int64_t r = 0; r < rows; ++r) {
    Vec<float> sum[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const float* const from = sums.from + 16 * v;
      if (sums.from == nullptr) {
        sum[v] = Vec<float>::Broadcast(0);
      } else {
        sum[v] = v + 1 < kVectors || sums.from_last == 16 ? Vec<float>::Load(from)
                                                          : Vec<float>::LoadFirst(from, sums.from_last);
      }
    }
    next.Ask(lines);
    const int64_t count = counts[r];
    for (int64_t e = 0; e < count; ++e) {
      const Vec<float> x = Vec<float>::Broadcast(values[e]);
      const float* const row = panel + places[e] * kColumns;
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[v].MultiplyAdd(x, Vec<float>::Load(row + 16 * v));
    }
    values += count;
    places += count;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      float* const to = sums.to + 16 * v;
      v + 1 < kVectors || sums.to_last == 16 ? sum[v].Store(to) : sum[v].StoreFirst(to, sums.to_last);
    }
    if (sums.from != nullptr) sums.from += sums.from_stride;
    sums.to += sums.to_stride;
  }
}

using AddEntriesFunction = decltype(&AddEntries<1>);
constexpr AddEntriesFunction kAddEntries[] = {AddEntries<1>, AddEntries<2>, AddEntries<3>, AddEntries<4>,
                                              AddEntries<5>, AddEntries<6>, AddEntries<7>, AddEntries<8>};

void Finish(const LargeGemmProblem& g, int64_t i, int64_t rows, int64_t j, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) {
    float* const __restrict out = g.out + (i + r) * g.out_stride + j;
    if (g.bias != nullptr) {
      const float* const __restrict bias = g.bias + j;
      for (int64_t c = 0; c < columns; ++c) out[c] += bias[c];
    }
    if (g.relu) {
      // What is not a number stays so.
      for (int64_t c = 0; c < columns; ++c) out[c] = out[c] < 0 ? 0 : out[c];
    }
  }
}

// Rows [i, i + rows) of the outputs, of the depth [p, end) of the sums.
void RunListed(const SparseGemmProblem& s, int64_t i, int64_t rows, int64_t p, int64_t end) {
  const LargeGemmProblem& g = s.product;
  SparseScratch& scratch = *s.scratch;
  Lists lists{&scratch};
  int64_t begins[kSparseListed / kSparseDepth];
  for (int64_t b = 0, q = p; q < end; q += kSparseDepth, ++b) {
    begins[b] = lists.used;
    ListRows(s, i, rows, q, Least(end - q, kSparseDepth), lists, scratch.counts + b * kSparseRows);
  }
  if (s.round != nullptr) s.round(scratch.values, lists.used, scratch.values);
  // What lies as a panel does is taken from where it is.
  const bool lies = !g.transpose_b && g.b_stride == kColumns && g.n == kColumns && s.round == nullptr;
  SparsePanel panel{p, Least(end - p, kSparseDepth), 0, Least(g.n, kColumns)};
  for (SparsePanel next; panel.columns > 0; panel = next) {
    next = Behind(g, panel, p, end);
    if (!lies) PackPanel(s, panel);
    const int64_t b = (panel.p - p) / kSparseDepth, last = panel.columns - (panel.columns - 1) / 16 * 16;
    float* const out = g.out + i * g.out_stride + panel.j;
    SumRows sums{scratch.sums, kColumns, 16, scratch.sums, kColumns, 16};
    if (b == 0 && !g.accumulate && p == 0) sums.from = nullptr;
    if (b == 0 && sums.from != nullptr) sums.from = out, sums.from_stride = g.out_stride, sums.from_last = last;
    const bool ends = panel.p + panel.depth == end;
    if (ends) sums.to = out, sums.to_stride = g.out_stride, sums.to_last = last;
    kAddEntries[(panel.columns - 1) / 16](rows, scratch.counts + b * kSparseRows, scratch.values + begins[b],
                                          scratch.places + begins[b], lies ? g.b + panel.p * g.b_stride : scratch.panel,
                                          sums,
                                          next.columns <= 0 || g.n * g.k < kAskedFrom ? NextPanel{} : NextOf(g, next));
    if (ends && end == g.k) Finish(g, i, rows, panel.j, panel.columns);
  }
}

void RunSparseGemm(const SparseGemmProblem& s) {
  const LargeGemmProblem& g = s.product;
  for (int64_t i = 0; i < g.m; i += kSparseRows) {
    for (int64_t p = 0; p < g.k; p += kSparseListed) {
      RunListed(s, i, Least(g.m - i, kSparseRows), p, Least(g.k, p + kSparseListed));
    }
  }
}

int64_t CountNonZeros(const float* x, int64_t n) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += x[i] != 0 ? 1 : 0;
  return count;
}
