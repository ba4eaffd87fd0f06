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

void LanePack(const LaneConv& c, const float* kernel, const LaneKernelStrides& s, float* packed) {
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

// Outputs [begin, end) of a row, which have the same runs.
void ConvStretch(const LaneConv& c, const Run* runs, int64_t count, const float* x, const float* packed,
                 const LaneEpilogue& all, float* y, int64_t outputs) {
  const int64_t x_step = c.stride[1] * c.channels * kLanes, y_step = c.out_step[1] * c.filters * kLanes;
  for (int64_t g = 0; g < FilterGroups(c.filters); ++g) {
    const FilterGroup group = GroupOf(c.filters, g);
    LaneEpilogue own = all;
    if (own.bias != nullptr) own.bias += group.first;
    if (own.gate != nullptr) own.gate += group.first * kLanes;
    kColumnsFunctions.at[group.count - 1](runs, count, x, x_step,
                                          packed + group.first * c.size[0] * c.size[1] * c.channels, own,
                                          y + group.first * kLanes, y_step, outputs);
  }
}

void LaneConvBlock(const LaneConv& c, const float* x, const float* packed, const LaneEpilogue& epilogue, float* y) {
  Run runs[kMaxRuns];
  for (int64_t i = 0; i < c.out[0]; ++i) {
    const Inside rows = PlacesInside(c, 0, i);
    const int64_t x_row = (i * c.stride[0] - c.pad[0]) * c.in[1];
    const int64_t y_row = (c.out_begin[0] + i * c.out_step[0]) * c.out_width + c.out_begin[1];
    for (int64_t j = 0; j < c.out[1];) {
      const Inside columns = PlacesInside(c, 1, j);
      int64_t end = j + 1;
      while (end < c.out[1] && PlacesInside(c, 1, end) == columns) ++end;
      const int64_t count = RunsOf(c, rows, columns, runs);
      const int64_t x_at = (x_row + j * c.stride[1] - c.pad[1]) * c.channels * kLanes;
      const int64_t y_at = (y_row + j * c.out_step[1]) * c.filters * kLanes;
      LaneEpilogue own = epilogue;
      if (own.gate != nullptr) own.gate += y_at;
      ConvStretch(c, runs, count, x + x_at, packed, own, y + y_at, end - j);
      j = end;
    }
  }
}
