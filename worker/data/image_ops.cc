// SPDX-License-Identifier: Apache-2.0
#include "worker/data/image_ops.h"

#include <algorithm>
#include <cmath>

namespace lockstep {

namespace {

// The four pixels around a place, in [height, width], and their weights; 0 for those outside.
struct Corners {
  int64_t at[4];
  float weight[4];
};

Corners CornersOf(double y, double x, const ImageSize& size) {
  const double top = std::floor(y), left = std::floor(x);
  const double down = y - top, right = x - left;
  const double weights[4] = {(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right};
  Corners corners;
  for (int i = 0; i < 4; ++i) {
    const auto row = static_cast<int64_t>(top) + i / 2, column = static_cast<int64_t>(left) + i % 2;
    const bool inside = row >= 0 && row < size.height && column >= 0 && column < size.width;
    corners.at[i] = inside ? row * size.width + column : 0;
    corners.weight[i] = inside ? static_cast<float>(weights[i]) : 0.0f;
  }
  return corners;
}

}  // namespace

void ShiftImage(const float* in, const ImageSize& size, int64_t down, int64_t right, float* out) {
  // Columns of `out` that are covered.
  const int64_t first = std::clamp<int64_t>(right, 0, size.width);
  const int64_t end = std::clamp<int64_t>(size.width + right, 0, size.width);
  for (int64_t channel = 0; channel < size.channels; ++channel) {
    for (int64_t y = 0; y < size.height; ++y) {
      float* to = out + (channel * size.height + y) * size.width;
      if (y < down || y - down >= size.height || first >= end) {
        std::fill_n(to, size.width, 0.0f);
        continue;
      }
      const float* from = in + (channel * size.height + y - down) * size.width;
      std::fill(to, to + first, 0.0f);
      std::copy(from + first - right, from + end - right, to + first);
      std::fill(to + end, to + size.width, 0.0f);
    }
  }
}

void FlipImage(float* pixels, const ImageSize& size, bool horizontal, bool vertical) {
  const int64_t plane = size.height * size.width;
  for (int64_t channel = 0; channel < size.channels; ++channel) {
    float* image = pixels + channel * plane;
    for (int64_t y = 0; horizontal && y < size.height; ++y) {
      std::reverse(image + y * size.width, image + (y + 1) * size.width);
    }
    for (int64_t y = 0; vertical && y < size.height / 2; ++y) {
      float* row = image + y * size.width;
      std::swap_ranges(row, row + size.width, image + (size.height - 1 - y) * size.width);
    }
  }
}

void RotateImage(const float* in, const ImageSize& size, double radians, float* out) {
  const double cosine = std::cos(radians), sine = std::sin(radians);
  const double middle_y = static_cast<double>(size.height - 1) / 2, middle_x = static_cast<double>(size.width - 1) / 2;
  const int64_t plane = size.height * size.width;
  for (int64_t y = 0; y < size.height; ++y) {
    const double dy = static_cast<double>(y) - middle_y;
    for (int64_t x = 0; x < size.width; ++x) {
      const double dx = static_cast<double>(x) - middle_x;
      const Corners corners = CornersOf(cosine * dy - sine * dx + middle_y, cosine * dx + sine * dy + middle_x, size);
      for (int64_t channel = 0; channel < size.channels; ++channel) {
        const float* image = in + channel * plane;
        float value = 0;
        for (int i = 0; i < 4; ++i) value += corners.weight[i] * image[corners.at[i]];
        out[channel * plane + y * size.width + x] = value;
      }
    }
  }
}

void CutSquare(float* pixels, const ImageSize& size, int64_t y, int64_t x, int64_t side) {
  const int64_t top = std::max<int64_t>(0, y - side / 2), bottom = std::min(size.height, y - side / 2 + side);
  const int64_t left = std::max<int64_t>(0, x - side / 2), right = std::min(size.width, x - side / 2 + side);
  for (int64_t channel = 0; channel < size.channels; ++channel) {
    for (int64_t row = top; row < bottom; ++row) {
      float* line = pixels + (channel * size.height + row) * size.width;
      std::fill(line + left, line + right, 0.0f);
    }
  }
}

}  // namespace lockstep
