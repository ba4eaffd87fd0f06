// SPDX-License-Identifier: Apache-2.0
// What augmentation does to one image, with every draw given: pure functions over [channels, height,
// width], each channel alike. `in` and `out` never overlap. No allocation; any thread.
#pragma once

#include <cstdint>

namespace lockstep {

struct ImageSize {
  int64_t channels = 1;
  int64_t height = 0;
  int64_t width = 0;
  int64_t elements() const { return channels * height * width; }
};

// out[y][x] = in[y - down][x - right]; what is uncovered is 0.
void ShiftImage(const float* in, const ImageSize& size, int64_t down, int64_t right, float* out);
// In place.
void FlipImage(float* pixels, const ImageSize& size, bool horizontal, bool vertical);
// About the middle ((width - 1) / 2, (height - 1) / 2). With y pointing down, out[y][x] is the bilinear value of
// `in` at (cos dx + sin dy, -sin dx + cos dy) from the middle, where (dx, dy) is (x, y) from the middle. Pixels
// outside count as 0, also beside the edge.
void RotateImage(const float* in, const ImageSize& size, double radians, float* out);
// Rows [y - side / 2, y - side / 2 + side) and columns alike become 0, as far as they lie within. In place.
void CutSquare(float* pixels, const ImageSize& size, int64_t y, int64_t x, int64_t side);

}  // namespace lockstep
