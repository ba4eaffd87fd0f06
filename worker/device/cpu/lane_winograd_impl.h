// SPDX-License-Identifier: Apache-2.0
// What goes in and out of Winograd's F(2x2, 3x3) (cpu_winograd.cc): additions alone. Included only inside a kernel
// set's namespace.

// B^T: from 4 to 4.
LOCKSTEP_INLINE void InputRow(const Vec<float>& a, const Vec<float>& b, const Vec<float>& c, const Vec<float>& d,
                              Vec<float>* out) {
  out[0] = Difference(a, c);
  out[1] = Sum(b, c);
  out[2] = Difference(c, b);
  out[3] = Difference(b, d);
}
// A^T: from 4 to 2.
LOCKSTEP_INLINE void OutputRow(const Vec<float>& a, const Vec<float>& b, const Vec<float>& c, const Vec<float>& d,
                               Vec<float>* out) {
  out[0] = Sum(Sum(a, b), c);
  out[1] = Difference(Difference(b, c), d);
}
// A: from 2 to 4.
LOCKSTEP_INLINE void GradientRow(const Vec<float>& a, const Vec<float>& b, Vec<float>* out) {
  out[0] = a;
  out[1] = Sum(a, b);
  out[2] = Difference(a, b);
  out[3] = Difference(Vec<float>::Broadcast(0.0f), b);
}

// Addresses so many floats apart, one after the other. Left to itself the compiler keeps all of them in registers, of
// which there are too few.
template <typename T>
struct Walk {
  T* at;
  int64_t step;

  LOCKSTEP_INLINE T* Next() {
    T* const here = at;
    at += step;
    asm volatile("" : "+r"(at));
    return here;
  }
};

// A tile's inputs, its rows `row_step` floats apart: where they lie, or where some are outside, in `patch`.
LOCKSTEP_INLINE const float* TileInputs(const LaneConv& c, int64_t row, int64_t column, const float* x, float* patch,
                                        int64_t* row_step) {
  const int64_t step = c.channels * kLanes;
  if (row >= 0 && row + 4 <= c.in[0] && column >= 0 && column + 4 <= c.in[1]) {
    *row_step = c.in[1] * step;
    return x + (row * c.in[1] + column) * step;
  }
  *row_step = 4 * step;
  float* to = patch;
  for (int64_t i = row; i < row + 4; ++i) {
    for (int64_t j = column; j < column + 4; ++j, to += step) {
      const bool inside = i >= 0 && i < c.in[0] && j >= 0 && j < c.in[1];
      const float* from = x + (i * c.in[1] + j) * step;
      for (int64_t k = 0; k < step; k += kLanes) {
        (inside ? Vec<float>::Load(from + k) : Vec<float>::Broadcast(0.0f)).Store(to + k);
      }
    }
  }
  return patch;
}

void WinogradInput(const LaneConv& c, const LaneTiles& tiles, const float* x, float* patch, float* v) {
  const int64_t step = c.channels * kLanes, place = tiles.count * step;
  for (int64_t t = 0; t < tiles.count; ++t, v += step) {
    int64_t row_step = 0;
    const float* from = TileInputs(c, 2 * tiles.row - c.pad[0], 2 * (tiles.first + t) - c.pad[1], x, patch, &row_step);
    for (int64_t k = 0; k < step; k += kLanes) {
      Vec<float> in[4][4], columns[4][4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Walk<const float> row{from + k + i * row_step, step};
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) in[i][j] = Vec<float>::Load(row.Next());
      }
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) InputRow(in[0][j], in[1][j], in[2][j], in[3][j], columns[j]);
      Walk<float> to{v + k, place};
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Vec<float> out[4];
        InputRow(columns[0][i], columns[1][i], columns[2][i], columns[3][i], out);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) out[j].Store(to.Next());
      }
    }
  }
}

void WinogradOutput(const LaneConv& c, const LaneTiles& tiles, const float* m, const LaneEpilogue& epilogue, float* y) {
  const int64_t step = c.filters * kLanes, place = tiles.count * step;
  for (int64_t t = 0; t < tiles.count; ++t, m += step) {
    const int64_t row = 2 * tiles.row, column = 2 * (tiles.first + t), at = (row * c.out_width + column) * step;
    const int64_t rows = Least(c.out[0] - row, 2), columns = Least(c.out[1] - column, 2);
    for (int64_t f = 0; f < c.filters; ++f) {
      Vec<float> in[4][4], sums[4][2];
      Walk<const float> from{m + f * kLanes, place};
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) in[i][j] = Vec<float>::Load(from.Next());
      }
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) OutputRow(in[0][j], in[1][j], in[2][j], in[3][j], sums[j]);
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        Vec<float> out[2];
        OutputRow(sums[0][i], sums[1][i], sums[2][i], sums[3][i], out);
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
          if (i >= rows || j >= columns) continue;
          const int64_t to = at + (i * c.out_width + j) * step + f * kLanes;
          if (epilogue.bias != nullptr) out[j] = Sum(out[j], Vec<float>::Broadcast(epilogue.bias[f]));
          if (epilogue.relu) out[j] = Relu(out[j]);
          if (epilogue.gate != nullptr) out[j] = Gated(out[j], Vec<float>::Load(epilogue.gate + to));
          out[j].Store(y + to);
        }
      }
    }
  }
}

void WinogradGradient(const LaneConv& c, const LaneTiles& tiles, const float* rows, float* m) {
  const int64_t step = PaddedFilters(c.filters) * kLanes, place = tiles.count * step;
  const bool below = 2 * tiles.row + 1 < c.out[0];
  const Vec<float> zero = Vec<float>::Broadcast(0.0f);
  for (int64_t t = 0; t < tiles.count; ++t, m += step) {
    const int64_t column = 2 * (tiles.first + t);
    const bool right = column + 1 < c.out[1];
    const float* from = rows + column * step;
    const float* under = from + c.out[1] * step;
    for (int64_t k = 0; k < step; k += kLanes) {
      Vec<float> columns[2][4];
      GradientRow(Vec<float>::Load(from + k), below ? Vec<float>::Load(under + k) : zero, columns[0]);
      GradientRow(right ? Vec<float>::Load(from + step + k) : zero,
                  below && right ? Vec<float>::Load(under + step + k) : zero, columns[1]);
      Walk<float> to{m + k, place};
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Vec<float> out[4];
        GradientRow(columns[0][i], columns[1][i], out);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) out[j].Store(to.Next());
      }
    }
  }
}
