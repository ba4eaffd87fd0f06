// SPDX-License-Identifier: Apache-2.0
// Pooling. Included only inside a kernel set's namespace. A row of outputs is done at once, one place of
// the window after another: the inner loops have no branches.

// The outputs [begin, end) of a row whose place `at` of the window, `at` - pad from the window's first
// column, lies inside the image.
struct PoolRange {
  int64_t begin;
  int64_t end;
};

LOCKSTEP_INLINE PoolRange InsideImage(int64_t offset, int64_t stride, int64_t length, int64_t places) {
  // The first place with place * stride + offset >= 0, and the first with ... >= length.
  const int64_t begin = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
  const int64_t end = length <= offset ? 0 : (length - offset + stride - 1) / stride;
  return {begin < places ? begin : places, end < places ? end : places};
}

// Calls visit(row of the image, offset of the first column, outputs inside) for each place of the window
// over one row of outputs, in order.
template <typename Visit>
LOCKSTEP_INLINE void ForPlaces(const PoolProblem& p, int64_t out_row, Visit visit) {
  for (int64_t r = 0; r < p.size[0]; ++r) {
    const int64_t row = out_row * p.stride[0] - p.pad[0] + r;
    if (row < 0 || row >= p.in[0]) continue;
    for (int64_t c = 0; c < p.size[1]; ++c) {
      const int64_t offset = c - p.pad[1];
      visit(row, offset, InsideImage(offset, p.stride[1], p.in[1], p.out[1]));
    }
  }
}

// How many places of the window over an output lie inside the image, along one axis.
LOCKSTEP_INLINE int64_t PlacesInside(const PoolProblem& p, int axis, int64_t place) {
  const int64_t first = place * p.stride[axis] - p.pad[axis];
  const int64_t begin = first < 0 ? 0 : first;
  const int64_t last = first + p.size[axis], end = last < p.in[axis] ? last : p.in[axis];
  return end - begin;
}

template <typename T>
void MaxPoolForward(const PoolProblem& p, const T* x, T* y) {
  for (int64_t plane = 0; plane < p.planes; ++plane, x += p.in[0] * p.in[1]) {
    for (int64_t i = 0; i < p.out[0]; ++i, y += p.out[1]) {
      // Every window has a place inside, so nothing of this is left.
      for (int64_t j = 0; j < p.out[1]; ++j) y[j] = -__builtin_huge_valf();
      ForPlaces(p, i, [&](int64_t row, int64_t offset, PoolRange range) {
        const T* from = x + row * p.in[1] + offset;
        // A NaN stays.
        for (int64_t j = range.begin; j < range.end; ++j) {
          const T v = from[j * p.stride[1]];
          y[j] = v > y[j] || v != v ? v : y[j];
        }
      });
    }
  }
}

template <typename T>
void MaxPoolBackward(const PoolProblem& p, const T* x, const T* y, const T* dy, T* dx, unsigned char* done) {
  for (int64_t plane = 0; plane < p.planes; ++plane, x += p.in[0] * p.in[1], dx += p.in[0] * p.in[1]) {
    for (int64_t k = 0; k < p.in[0] * p.in[1]; ++k) dx[k] = T(0);
    for (int64_t i = 0; i < p.out[0]; ++i, y += p.out[1], dy += p.out[1]) {
      for (int64_t j = 0; j < p.out[1]; ++j) done[j] = 0;
      ForPlaces(p, i, [&](int64_t row, int64_t offset, PoolRange range) {
        const T* from = x + row * p.in[1] + offset;
        T* to = dx + row * p.in[1] + offset;
        for (int64_t j = range.begin; j < range.end; ++j) {
          const bool hit = from[j * p.stride[1]] == y[j] && done[j] == 0;
          to[j * p.stride[1]] += hit ? dy[j] : T(0);
          done[j] = static_cast<unsigned char>(done[j] | (hit ? 1 : 0));
        }
      });
    }
  }
}

template <typename T>
void AveragePoolForward(const PoolProblem& p, const T* x, T* y) {
  for (int64_t plane = 0; plane < p.planes; ++plane, x += p.in[0] * p.in[1]) {
    for (int64_t i = 0; i < p.out[0]; ++i, y += p.out[1]) {
      for (int64_t j = 0; j < p.out[1]; ++j) y[j] = T(0);
      ForPlaces(p, i, [&](int64_t row, int64_t offset, PoolRange range) {
        const T* from = x + row * p.in[1] + offset;
        for (int64_t j = range.begin; j < range.end; ++j) y[j] += from[j * p.stride[1]];
      });
      const int64_t rows = PlacesInside(p, 0, i);
      for (int64_t j = 0; j < p.out[1]; ++j) y[j] /= static_cast<T>(rows * PlacesInside(p, 1, j));
    }
  }
}

template <typename T>
void AveragePoolBackward(const PoolProblem& p, const T* dy, T* dx) {
  for (int64_t plane = 0; plane < p.planes; ++plane, dx += p.in[0] * p.in[1]) {
    for (int64_t k = 0; k < p.in[0] * p.in[1]; ++k) dx[k] = T(0);
    for (int64_t i = 0; i < p.out[0]; ++i, dy += p.out[1]) {
      const int64_t rows = PlacesInside(p, 0, i);
      ForPlaces(p, i, [&](int64_t row, int64_t offset, PoolRange range) {
        T* to = dx + row * p.in[1] + offset;
        for (int64_t j = range.begin; j < range.end; ++j) {
          to[j * p.stride[1]] += dy[j] / static_cast<T>(rows * PlacesInside(p, 1, j));
        }
      });
    }
  }
}
