// SPDX-License-Identifier: Apache-2.0
// Convolution of one block of samples. Included only inside a kernel set's namespace.

// Vectors of x side by side, each times one row of the packed kernel.
struct Run {
  int64_t x;
  int64_t kernel;
  int64_t length;
};
constexpr int64_t kMaxRuns = 64;

// Which places of a window lie inside the image.
struct Inside {
  int64_t begin, end;
  bool operator==(const Inside&) const = default;
};

LOCKSTEP_INLINE Inside PlacesInside(const LaneConv& c, int axis, int64_t place) {
  const int64_t first = place * c.stride[axis] - c.pad[axis], d = c.dilation[axis];
  const int64_t begin = first >= 0 ? 0 : (-first + d - 1) / d;
  const int64_t end = c.in[axis] <= first ? 0 : (c.in[axis] - first + d - 1) / d;
  return {begin, end < c.size[axis] ? end : c.size[axis]};
}

template <int kFilters, int kColumns>
void ConvTile(const Run* runs, int64_t count, const float* x, int64_t x_step, const float* kernel,
              const LaneEpilogue& epilogue, float* y, int64_t y_step) {
  Vec<float> sum[kColumns][kFilters];
#pragma GCC unroll 8
  for (int f = 0; f < kFilters; ++f) {
    const Vec<float> bias = Vec<float>::Broadcast(epilogue.bias == nullptr ? 0.0f : epilogue.bias[f]);
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; ++j) sum[j][f] = bias;
  }
  for (int64_t r = 0; r < count; ++r) {
    const float* from = x + runs[r].x;
    const float* k = kernel + runs[r].kernel * kFilters;
    for (int64_t t = runs[r].length; t > 0; --t, from += kLanes, k += kFilters) {
      Vec<float> column[kColumns];
#pragma GCC unroll 8
      for (int j = 0; j < kColumns; ++j) column[j] = Vec<float>::Load(from + j * x_step);
#pragma GCC unroll 8
      for (int f = 0; f < kFilters; ++f) {
        const Vec<float> w = Vec<float>::Broadcast(k[f]);
#pragma GCC unroll 8
        for (int j = 0; j < kColumns; ++j) sum[j][f].MultiplyAdd(w, column[j]);
      }
    }
  }
  if (epilogue.relu) {
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; ++j) {
#pragma GCC unroll 8
      for (int f = 0; f < kFilters; ++f) sum[j][f] = Relu(sum[j][f]);
    }
  }
  if (epilogue.gate != nullptr) {
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; ++j) {
#pragma GCC unroll 8
      for (int f = 0; f < kFilters; ++f) {
        sum[j][f] = Gated(sum[j][f], Vec<float>::Load(epilogue.gate + j * y_step + f * kLanes));
      }
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < kColumns; ++j) {
#pragma GCC unroll 8
    for (int f = 0; f < kFilters; ++f) sum[j][f].Store(y + j * y_step + f * kLanes);
  }
}

// Columns of a tile with so many filters.
constexpr int TileColumns(int filters) {
  if (kTileFilters < 8) return 1;
  return filters >= 7 ? 3 : filters == 6 ? 4 : filters == 5 ? 5 : filters == 4 ? 6 : 7;
}

// `columns` outputs that have the same runs.
template <int kFilters>
void ConvColumns(const Run* runs, int64_t count, const float* x, int64_t x_step, const float* kernel,
                 LaneEpilogue epilogue, float* y, int64_t y_step, int64_t columns) {
  constexpr int kMost = TileColumns(kFilters);
  const auto next = [&](int64_t done) {
    x += done * x_step;
    y += done * y_step;
    if (epilogue.gate != nullptr) epilogue.gate += done * y_step;
    columns -= done;
  };
  while (columns >= kMost) {
    ConvTile<kFilters, kMost>(runs, count, x, x_step, kernel, epilogue, y, y_step);
    next(kMost);
  }
  if constexpr (kMost > 1) {
    while (columns >= 2) {
      ConvTile<kFilters, 2>(runs, count, x, x_step, kernel, epilogue, y, y_step);
      next(2);
    }
    if (columns == 1) ConvTile<kFilters, 1>(runs, count, x, x_step, kernel, epilogue, y, y_step);
  }
}

using ColumnsFunction = void (*)(const Run*, int64_t, const float*, int64_t, const float*, LaneEpilogue, float*,
                                 int64_t, int64_t);
template <size_t... kFilters>
constexpr Table<ColumnsFunction, sizeof...(kFilters)> ColumnsFunctions(std::index_sequence<kFilters...>) {
  return {{ConvColumns<static_cast<int>(kFilters) + 1>...}};
}
constexpr auto kColumnsFunctions = ColumnsFunctions(std::make_index_sequence<kTileFilters>());

// Filters [first, first + count) of group `g` of as many groups as needed, all about as large.
struct FilterGroup {
  int64_t first, count;
};
LOCKSTEP_INLINE int64_t FilterGroups(int64_t filters) { return (filters + kTileFilters - 1) / kTileFilters; }
LOCKSTEP_INLINE FilterGroup GroupOf(int64_t filters, int64_t g) {
  const int64_t groups = FilterGroups(filters), first = filters * g / groups;
  return {first, filters * (g + 1) / groups - first};
}

[[maybe_unused]] void LanePack(const LaneConv& c, const float* kernel, const LaneKernelStrides& s, float* packed) {
  for (int64_t g = 0; g < FilterGroups(c.filters); ++g) {
    const FilterGroup group = GroupOf(c.filters, g);
    for (int64_t p = 0; p < c.size[0]; ++p) {
      for (int64_t q = 0; q < c.size[1]; ++q) {
        for (int64_t k = 0; k < c.channels; ++k) {
          const float* from = kernel + group.first * s.filter + k * s.channel + p * s.row + q * s.column;
          for (int64_t f = 0; f < group.count; ++f) *packed++ = from[f * s.filter];
        }
      }
    }
  }
}

// The runs of outputs whose window has these places inside; x at the window's first place.
int64_t RunsOf(const LaneConv& c, const Inside& rows, const Inside& columns, Run* runs) {
  int64_t count = 0;
  if (columns.begin >= columns.end) return 0;
  for (int64_t p = rows.begin; p < rows.end; ++p) {
    const int64_t row = p * c.dilation[0] * c.in[1];
    if (c.dilation[1] == 1) {
      runs[count++] = {(row + columns.begin) * c.channels * kLanes, (p * c.size[1] + columns.begin) * c.channels,
                       (columns.end - columns.begin) * c.channels};
      continue;
    }
    for (int64_t q = columns.begin; q < columns.end; ++q) {
      runs[count++] = {(row + q * c.dilation[1]) * c.channels * kLanes, (p * c.size[1] + q) * c.channels, c.channels};
    }
  }
  return count;
}

// A row or a column of outputs, all with the same runs: where the first window and the first output lie, and the
// distances of the next ones.
struct Stretch {
  int64_t x, x_step;
  int64_t y, y_step;
  int64_t outputs;
};

void ConvStretch(const LaneConv& c, const Run* runs, int64_t count, const Stretch& s, const float* x,
                 const float* packed, const LaneEpilogue& all, float* y) {
  for (int64_t g = 0; g < FilterGroups(c.filters); ++g) {
    const FilterGroup group = GroupOf(c.filters, g);
    const int64_t at = s.y + group.first * kLanes;
    LaneEpilogue own = all;
    if (own.bias != nullptr) own.bias += group.first;
    if (own.gate != nullptr) own.gate += at;
    kColumnsFunctions.at[group.count - 1](runs, count, x + s.x, s.x_step,
                                          packed + group.first * c.size[0] * c.size[1] * c.channels, own, y + at,
                                          s.y_step, s.outputs);
  }
}

// The outputs from `first` on whose windows have the same places inside.
LOCKSTEP_INLINE int64_t SameInside(const LaneConv& c, int axis, int64_t first) {
  const Inside inside = PlacesInside(c, axis, first);
  int64_t end = first + 1;
  while (end < c.out[axis] && PlacesInside(c, axis, end) == inside) ++end;
  return end - first;
}

// Outputs [row, row + rows) x [column, column + columns), which have the same runs: along their rows, and what is left
// of an odd column down that column, since one output alone fills no tile.
void ConvRectangle(const LaneConv& c, const int64_t* first, const int64_t* count, const float* x, const float* packed,
                   const LaneEpilogue& epilogue, float* y) {
  Run runs[kMaxRuns];
  const int64_t run_count = RunsOf(c, PlacesInside(c, 0, first[0]), PlacesInside(c, 1, first[1]), runs);
  const int64_t step = c.channels * kLanes, wide = c.filters * kLanes;
  const int64_t x_step[2] = {c.stride[0] * c.in[1] * step, c.stride[1] * step};
  const int64_t y_step[2] = {c.out_step[0] * c.out_width * wide, c.out_step[1] * wide};
  const int64_t x_at = ((first[0] * c.stride[0] - c.pad[0]) * c.in[1] + first[1] * c.stride[1] - c.pad[1]) * step;
  const int64_t y_at =
      ((c.out_begin[0] + first[0] * c.out_step[0]) * c.out_width + c.out_begin[1]) * wide + first[1] * y_step[1];
  const int64_t most = TileColumns(static_cast<int>(GroupOf(c.filters, 0).count));
  const int64_t down = count[0] > 1 && count[1] % most % 2 == 1 ? 1 : 0, along = count[1] - down;
  for (int64_t i = 0; along > 0 && i < count[0]; ++i) {
    const Stretch row{x_at + i * x_step[0], x_step[1], y_at + i * y_step[0], y_step[1], along};
    ConvStretch(c, runs, run_count, row, x, packed, epilogue, y);
  }
  if (down == 0) return;
  const Stretch column{x_at + along * x_step[1], x_step[0], y_at + along * y_step[1], y_step[0], count[0]};
  ConvStretch(c, runs, run_count, column, x, packed, epilogue, y);
}

void LaneConvBlock(const LaneConv& c, const float* x, const float* packed, const LaneEpilogue& epilogue, float* y) {
  int64_t first[2], count[2];
  for (first[0] = 0; first[0] < c.out[0]; first[0] += count[0]) {
    count[0] = SameInside(c, 0, first[0]);
    for (first[1] = 0; first[1] < c.out[1]; first[1] += count[1]) {
      count[1] = SameInside(c, 1, first[1]);
      ConvRectangle(c, first, count, x, packed, epilogue, y);
    }
  }
}
