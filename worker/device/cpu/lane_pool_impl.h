// SPDX-License-Identifier: Apache-2.0
// Pooling of one block of samples. Included only inside a kernel set's namespace.

// The window of one output inside the image.
struct PoolWindow {
  int64_t row, column, rows, columns;
  // Of its first place in x, in floats.
  int64_t x;
  int64_t places() const { return rows * columns; }
};

// Calls visit(window, output's offset in floats) for each output, in order.
template <typename Visit>
LOCKSTEP_INLINE void ForWindows(const LanePool& p, Visit visit) {
  const auto clip = [&](int axis, int64_t place, int64_t& first, int64_t& count) __attribute__((always_inline)) {
    const int64_t begin = place * p.stride[axis] - p.pad[axis], end = begin + p.size[axis];
    first = begin < 0 ? 0 : begin;
    count = (end < p.in[axis] ? end : p.in[axis]) - first;
  };
  const int64_t step = p.channels * kLanes;
  for (int64_t i = 0; i < p.out[0]; ++i) {
    PoolWindow w{};
    clip(0, i, w.row, w.rows);
    for (int64_t j = 0; j < p.out[1]; ++j) {
      clip(1, j, w.column, w.columns);
      w.x = (w.row * p.in[1] + w.column) * step;
      visit(w, (i * p.out[1] + j) * step);
    }
  }
}

// Whether every place is in exactly one window: then nothing is added up, and nothing left out.
LOCKSTEP_INLINE bool Tiles(const LanePool& p) {
  bool tiles = true;
  for (int axis = 0; axis < 2; ++axis) {
    tiles = tiles && p.pad[axis] == 0 && p.stride[axis] == p.size[axis] && p.out[axis] * p.size[axis] == p.in[axis];
  }
  return tiles;
}

LOCKSTEP_INLINE void ClearImage(const LanePool& p, float* x) {
  __builtin_memset(x, 0, static_cast<size_t>(p.in[0] * p.in[1] * p.channels * kLanes) * sizeof(float));
}

void LaneMaxPoolForward(const LanePool& p, const float* x, float* y) {
  const int64_t step = p.channels * kLanes;
  ForWindows(
      p, [&](const PoolWindow& w, int64_t out) __attribute__((always_inline)) {
        for (int64_t k = 0; k < step; k += kLanes) {
          Vec<float> most = Vec<float>::Load(x + w.x + k);
          for (int64_t r = 0; r < w.rows; ++r) {
            const float* row = x + w.x + r * p.in[1] * step + k;
            for (int64_t c = r == 0 ? 1 : 0; c < w.columns; ++c) most = Larger(Vec<float>::Load(row + c * step), most);
          }
          most.Store(y + out + k);
        }
      });
}

template <bool kTiles>
LOCKSTEP_INLINE void MaxPoolGradient(const LanePool& p, const float* x, const float* y, const float* dy, bool relu,
                                     float* dx) {
  const int64_t step = p.channels * kLanes;
  ForWindows(
      p, [&](const PoolWindow& w, int64_t out) __attribute__((always_inline)) {
        for (int64_t k = 0; k < step; k += kLanes) {
          const Vec<float> most = Vec<float>::Load(y + out + k);
          // What has found no place yet: nothing, after the first of the largest.
          Vec<float> left = Vec<float>::Load(dy + out + k);
          if (relu) left = Gated(left, most);
          for (int64_t r = 0; r < w.rows; ++r) {
            const int64_t at = w.x + r * p.in[1] * step + k;
            for (int64_t c = 0; c < w.columns; ++c) {
              const Vec<float> value = Vec<float>::Load(x + at + c * step), here = WhereSame(value, most, left);
              if (kTiles) {
                here.Store(dx + at + c * step);
              } else {
                AddTo(here, dx + at + c * step);
              }
              left = WhereOther(value, most, left);
            }
          }
        }
      });
}

void LaneMaxPoolBackward(const LanePool& p, const float* x, const float* y, const float* dy, bool relu, float* dx) {
  if (Tiles(p)) return MaxPoolGradient<true>(p, x, y, dy, relu, dx);
  ClearImage(p, dx);
  MaxPoolGradient<false>(p, x, y, dy, relu, dx);
}

void LaneAveragePoolForward(const LanePool& p, const float* x, float* y) {
  const int64_t step = p.channels * kLanes;
  ForWindows(
      p, [&](const PoolWindow& w, int64_t out) __attribute__((always_inline)) {
        const float count = static_cast<float>(w.places());
        for (int64_t k = 0; k < step; k += kLanes) {
          Vec<float> sum = Vec<float>::Broadcast(0.0f);
          for (int64_t r = 0; r < w.rows; ++r) {
            const float* row = x + w.x + r * p.in[1] * step + k;
            for (int64_t c = 0; c < w.columns; ++c) sum = Sum(sum, Vec<float>::Load(row + c * step));
          }
          Quotient(sum, Vec<float>::Broadcast(count)).Store(y + out + k);
        }
      });
}

void LaneAveragePoolBackward(const LanePool& p, const float* dy, float* dx) {
  const int64_t step = p.channels * kLanes;
  ClearImage(p, dx);
  ForWindows(
      p, [&](const PoolWindow& w, int64_t out) __attribute__((always_inline)) {
        const float count = static_cast<float>(w.places());
        for (int64_t k = 0; k < step; k += kLanes) {
          const Vec<float> part = Quotient(Vec<float>::Load(dy + out + k), Vec<float>::Broadcast(count));
          for (int64_t r = 0; r < w.rows; ++r) {
            float* row = dx + w.x + r * p.in[1] * step + k;
            for (int64_t c = 0; c < w.columns; ++c) AddTo(part, row + c * step);
          }
        }
      });
}
