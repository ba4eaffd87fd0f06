// SPDX-License-Identifier: Apache-2.0
// The gradient of a kernel over one block of samples, a row of outputs at a time. Included only inside a kernel
// set's namespace, which has TransposeFactors, CopyFactors and kPairs. Two forms: with the filters in the lanes, for
// which dy's row is transposed, the samples are a sum like any other; with few filters the samples stay in the lanes,
// and are added up at the end.

// One row of outputs, seen from one row of the window.
struct GradRow {
  // The first tap of the first output, and the distance of outputs.
  const float* x;
  int64_t x_step;
  // [outputs][16 samples][filters]; in the dot form [outputs][filters][16 samples].
  const float* dy;
  int64_t dy_step;
  int64_t outputs;
  int64_t samples;
};

// sum[tap][filters of kVectors vectors] += dy x.
template <int kVectors, int kTaps>
void OuterTile(const GradRow& row, int64_t filters, float* sum) {
  Vec<float> total[kTaps][kVectors];
  const Vec<float> zero = Vec<float>::Broadcast(0.0f);
#pragma GCC unroll 16
  for (int t = 0; t < kTaps; ++t) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) total[t][v] = zero;
  }
  for (int64_t j = 0; j < row.outputs; ++j) {
    const float* x = row.x + j * row.x_step;
    const float* dy = row.dy + j * row.dy_step;
    for (int64_t s = 0; s < row.samples; ++s, ++x, dy += filters) {
      Vec<float> d[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) d[v] = Vec<float>::Load(dy + v * kLanes);
#pragma GCC unroll 16
      for (int t = 0; t < kTaps; ++t) {
        const Vec<float> b = Vec<float>::Broadcast(x[t * kLanes]);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) total[t][v].MultiplyAdd(b, d[v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < kTaps; ++t) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) AddTo(total[t][v], sum + t * filters + v * kLanes);
  }
}

// sum[tap][filter][16] += dy x of each sample.
template <int kFilters, int kTaps>
void DotTile(const GradRow& row, int64_t filters, float* sum) {
  Vec<float> total[kTaps][kFilters];
  const Vec<float> zero = Vec<float>::Broadcast(0.0f);
#pragma GCC unroll 8
  for (int t = 0; t < kTaps; ++t) {
#pragma GCC unroll 8
    for (int f = 0; f < kFilters; ++f) total[t][f] = zero;
  }
  const float* x = row.x;
  const float* dy = row.dy;
  for (int64_t j = 0; j < row.outputs; ++j, x += row.x_step, dy += row.dy_step) {
    Vec<float> d[kFilters];
#pragma GCC unroll 8
    for (int f = 0; f < kFilters; ++f) d[f] = Vec<float>::Load(dy + f * kLanes);
#pragma GCC unroll 8
    for (int t = 0; t < kTaps; ++t) {
      const Vec<float> a = Vec<float>::Load(x + t * kLanes);
#pragma GCC unroll 8
      for (int f = 0; f < kFilters; ++f) total[t][f].MultiplyAdd(a, d[f]);
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTaps; ++t) {
#pragma GCC unroll 8
    for (int f = 0; f < kFilters; ++f) AddTo(total[t][f], sum + (t * filters + f) * kLanes);
  }
}

using GradTile = void (*)(const GradRow&, int64_t, float*);

template <int kRows, bool kDot, size_t... kTaps>
constexpr Table<GradTile, sizeof...(kTaps)> GradTiles(std::index_sequence<kTaps...>) {
  if constexpr (kDot) {
    return {{DotTile<kRows, static_cast<int>(kTaps) + 1>...}};
  } else {
    return {{OuterTile<kRows, static_cast<int>(kTaps) + 1>...}};
  }
}
constexpr auto kOneTiles = GradTiles<1, false>(std::make_index_sequence<kOneTaps>());
constexpr auto kTwoTiles = GradTiles<2, false>(std::make_index_sequence<kTwoTaps>());
template <size_t... kFilters>
constexpr Table<Table<GradTile, kDotTaps>, sizeof...(kFilters)> DotTiles(std::index_sequence<kFilters...>) {
  return {{GradTiles<static_cast<int>(kFilters) + 1, true>(std::make_index_sequence<kDotTaps>())...}};
}
constexpr auto kDotTiles = DotTiles(std::make_index_sequence<kDotFilters>());

// Calls visit(first, count) for about equal parts of at most `most`.
template <typename Visit>
LOCKSTEP_INLINE void ForParts(int64_t total, int64_t most, Visit visit) {
  const int64_t parts = (total + most - 1) / most;
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t first = total * i / parts;
    visit(first, total * (i + 1) / parts - first);
  }
}

// Taps [first, first + count) of a row of the window, for all filters.
LOCKSTEP_INLINE void OuterTaps(GradRow row, int64_t count, int64_t filters, float* sum) {
  for (int64_t f = 0; f < filters;) {
    const bool two = kTwoTaps > 0 && filters - f >= 2 * kLanes;
    ForParts(count, two ? kTwoTaps : kOneTaps, [&](int64_t first, int64_t taps) {
      GradRow part = row;
      part.x += first * kLanes;
      part.dy += f;
      (two ? kTwoTiles.at : kOneTiles.at)[taps - 1](part, filters, sum + first * filters + f);
    });
    f += two ? 2 * kLanes : kLanes;
  }
}

LOCKSTEP_INLINE void DotTaps(const GradRow& row, int64_t count, int64_t filters, float* sum) {
  ForParts(filters, kDotFilters, [&](int64_t f, int64_t rows) {
    ForParts(count, kDotTaps, [&](int64_t first, int64_t taps) {
      GradRow part = row;
      part.x += first * kLanes;
      part.dy += f * kLanes;
      kDotTiles.at[rows - 1].at[taps - 1](part, filters, sum + (first * filters + f) * kLanes);
    });
  });
}

// [outputs][filters][16 samples] to [outputs][16 samples][padded filters]; adds dy to dbias, where not null, sample
// k to sum k mod 4.
void TransposeRow(const float* dy, int64_t outputs, int64_t filters, int64_t samples, float* to, float* dbias) {
  const int64_t padded = PaddedFilters(filters);
  for (int64_t f = 0; f < filters; f += kLanes) {
    const int64_t count = filters - f < kLanes ? filters - f : kLanes;
    Vec<float> sums[4];
    for (Vec<float>& sum : sums) sum = Vec<float>::Broadcast(0.0f);
    for (int64_t j = 0; j < outputs; ++j) {
      float* from = to + j * kLanes * padded + f;
      TransposeFactors(dy + (j * filters + f) * kLanes, count, from, padded);
      if (dbias == nullptr) continue;
      for (int64_t s = 0; s < samples; ++s) sums[s % 4] = Sum(sums[s % 4], Vec<float>::Load(from + s * padded));
    }
    if (dbias != nullptr) AddTo(Sum(Sum(sums[0], sums[1]), Sum(sums[2], sums[3])), dbias + f);
  }
}

// A row of the image, with the zeros before and behind it.
void PadRow(const LaneConv& c, const float* x, int64_t before, int64_t all, float* to) {
  const int64_t inside = c.in[1] * c.channels * kLanes, kept = before + inside < all ? inside : all - before;
  for (int64_t i = 0; i < before; ++i) to[i] = 0.0f;
  CopyFactors(x, kept, to + before);
  for (int64_t i = before + kept; i < all; ++i) to[i] = 0.0f;
}

// Where a block's gradient is summed, and the rows that it works on.
struct GradWork {
  bool dot;
  // Of one tap's sums, in floats.
  int64_t wide;
  float* sums;
  float* row_dy;
  // Padded rows; those before `padded` are in their slots, or no longer wanted.
  float* ring;
  int64_t padded;
};

LOCKSTEP_INLINE void AddTaps(const GradWork& work, const GradRow& row, int64_t filters, int64_t count, float* sums) {
  if (work.dot) {
    DotTaps(row, count, filters, sums);
  } else {
    OuterTaps(row, count, work.wide, sums);
  }
}

// One row of the window over one row of the image, for each of its places alone.
LOCKSTEP_INLINE void AddPlaces(const LaneConv& c, const GradWork& work, const GradRow& all, float* sums) {
  const int64_t step = c.channels * kLanes;
  for (int64_t q = 0; q < c.size[1]; ++q) {
    const int64_t at = q * c.dilation[1] - c.pad[1], stride = c.stride[1];
    const int64_t begin = at >= 0 ? 0 : (-at + stride - 1) / stride;
    const int64_t inside = c.in[1] <= at ? 0 : (c.in[1] - at + stride - 1) / stride;
    const int64_t end = inside < all.outputs ? inside : all.outputs;
    if (begin >= end) continue;
    GradRow row = all;
    row.x += (begin * stride + at) * step;
    row.dy += begin * row.dy_step;
    row.outputs = end - begin;
    AddTaps(work, row, c.filters, c.channels, sums + q * c.channels * work.wide);
  }
}

// Row r of the image as factors, and with the zeros around it where all places of a window's row are taken at once.
LOCKSTEP_INLINE const float* FactorRow(const LaneConv& c, GradWork& work, const float* x, int64_t r) {
  const int64_t step = c.channels * kLanes, slots = WindowRows(c);
  const bool pads = !TakesPlacesAlone(c) && (c.pad[1] != 0 || PaddedWidth(c) > c.in[1]);
  if (!pads && !kPairs) return x + r * c.in[1] * step;
  const int64_t before = pads ? c.pad[1] * step : 0, floats = (pads ? PaddedWidth(c) : c.in[1]) * step;
  // Rows come in order, and a slot is overwritten when the window has left its row.
  for (; work.padded <= r; ++work.padded) {
    PadRow(c, x + work.padded * c.in[1] * step, before, floats, work.ring + work.padded % slots * floats);
  }
  return work.ring + r % slots * floats;
}

void LaneConvKernel(const LaneConv& c, const float* x, const float* dy, int64_t samples, float* dkernel, float* dbias,
                    float* scratch) {
  const bool dot = SamplesStayInLanes(c.filters), alone = TakesPlacesAlone(c);
  const int64_t filters = c.filters, taps = c.size[0] * c.size[1] * c.channels, step = c.channels * kLanes;
  GradWork work{.dot = dot,
                .wide = dot ? filters * kLanes : PaddedFilters(filters),
                .sums = dkernel,
                .row_dy = scratch,
                .ring = scratch + c.out[1] * kLanes * PaddedFilters(filters),
                .padded = 0};
  if (dot) {
    work.sums = work.ring;
    work.ring += taps * work.wide;
    for (float* at = work.sums; at < work.ring; ++at) *at = 0.0f;
  }
  for (int64_t i = 0; i < c.out[0]; ++i) {
    const float* from = dy + i * c.out[1] * (c.turned ? PaddedFilters(filters) : filters) * kLanes;
    const bool columns = dot || kPairs;
    if (columns && dbias != nullptr) AddColumns(from, c.out[1], filters, dbias);
    if (!dot && !c.turned) TransposeRow(from, c.out[1], filters, samples, work.row_dy, columns ? nullptr : dbias);
    const Inside rows = PlacesInside(c, 0, i);
    for (int64_t p = rows.begin; p < rows.end; ++p) {
      const int64_t r = i * c.stride[0] - c.pad[0] + p * c.dilation[0];
      const GradRow row{.x = FactorRow(c, work, x, r),
                        .x_step = c.stride[1] * step,
                        .dy = dot || c.turned ? from : work.row_dy,
                        .dy_step = dot ? work.wide : kLanes * work.wide,
                        .outputs = c.out[1],
                        .samples = kPairs ? (samples + 1) / 2 : samples};
      float* sums = work.sums + p * c.size[1] * c.channels * work.wide;
      if (alone) {
        AddPlaces(c, work, row, sums);
      } else {
        AddTaps(work, row, filters, c.size[1] * c.channels, sums);
      }
    }
  }
  if (dot) AddLanes(work.sums, taps, filters, dkernel, PaddedFilters(filters));
}
