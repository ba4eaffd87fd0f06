// SPDX-License-Identifier: Apache-2.0
// Pooling on the CPU: plain loops over images. Each output is computed from its window, row by row.
#pragma once

#include <algorithm>

#include "worker/device/device.h"

namespace lockstep::cpu {

// The part of a window that lies inside the image, along one axis.
struct Span {
  int64_t begin;
  int64_t end;
};
inline Span Inside(const WindowArgs& args, int axis, int64_t place, int64_t length) {
  const int64_t first = place * args.stride[static_cast<size_t>(axis)] - args.pad_begin[static_cast<size_t>(axis)];
  return {std::max<int64_t>(first, 0), std::min(first + args.size[static_cast<size_t>(axis)], length)};
}

// Calls visit(image, place in the output, rows, columns) for each window of one plane after another.
template <typename Visit>
void ForWindows(const WindowArgs& args, const Tensor& x, const Tensor& y, Visit visit) {
  const int64_t planes = x.shape[0] * x.shape[1], height = x.shape[2], width = x.shape[3];
  const int64_t out_height = y.shape[2], out_width = y.shape[3];
  for (int64_t p = 0; p < planes; ++p) {
    for (int64_t i = 0; i < out_height; ++i) {
      const Span rows = Inside(args, 0, i, height);
      for (int64_t j = 0; j < out_width; ++j) {
        visit(p * height * width, (p * out_height + i) * out_width + j, rows, Inside(args, 1, j, width));
      }
    }
  }
}

// The place of the first of the largest; a NaN is larger than everything.
template <typename T>
int64_t Largest(const T* image, int64_t width, const Span& rows, const Span& columns) {
  int64_t best = rows.begin * width + columns.begin;
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    for (int64_t c = columns.begin; c < columns.end; ++c) {
      const T value = image[r * width + c];
      if (value > image[best] || (value != value && image[best] == image[best])) best = r * width + c;
    }
  }
  return best;
}

template <typename T>
void PoolForward(Pooling kind, const WindowArgs& args, Tensor x, Tensor y) {
  const int64_t width = x.shape[3];
  ForWindows(args, x, y, [&](int64_t image, int64_t out, const Span& rows, const Span& columns) {
    const T* from = x.as<T>() + image;
    if (kind == Pooling::kMax) {
      y.as<T>()[out] = from[Largest(from, width, rows, columns)];
      return;
    }
    T sum = T(0);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      for (int64_t c = columns.begin; c < columns.end; ++c) sum += from[r * width + c];
    }
    y.as<T>()[out] = sum / static_cast<T>((rows.end - rows.begin) * (columns.end - columns.begin));
  });
}

template <typename T>
void PoolBackward(Pooling kind, const WindowArgs& args, Tensor x, Tensor dy, Tensor dx) {
  const int64_t width = x.shape[3];
  std::fill_n(dx.as<T>(), dx.elements(), T(0));
  ForWindows(args, x, dy, [&](int64_t image, int64_t out, const Span& rows, const Span& columns) {
    const T* from = x.as<T>() + image;
    T* to = dx.as<T>() + image;
    const T gradient = dy.as<T>()[out];
    if (kind == Pooling::kMax) {
      to[Largest(from, width, rows, columns)] += gradient;
      return;
    }
    const T share = gradient / static_cast<T>((rows.end - rows.begin) * (columns.end - columns.begin));
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      for (int64_t c = columns.begin; c < columns.end; ++c) to[r * width + c] += share;
    }
  });
}

}  // namespace lockstep::cpu
