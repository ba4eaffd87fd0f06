// SPDX-License-Identifier: Apache-2.0
// How a convolution is told to a library that pads both ends of an image alike, and which wants channels in multiples
// where it is to use tensor cores. Host code without calls of CUDA.
#pragma once

#include <array>
#include <cstdint>

#include "worker/device/device.h"

namespace lockstep::cuda {

struct ConvGeometry {
  int64_t rows = 0, channels = 0, filters = 0;
  // As the library sees them.
  int64_t library_channels = 0;
  // Index 0 is the height.
  std::array<int64_t, 2> in{}, out{}, window{};
  // True: the images have to be copied into larger ones, with zeros around them, or with more channels.
  bool copied = false;
  // What the library is told: the images' size, and the zeros at both ends.
  std::array<int64_t, 2> size{}, pad{};
  // Where an image begins in its copy.
  std::array<int64_t, 2> begin{};

  int64_t library_images() const { return rows * size[0] * size[1] * library_channels; }
  int64_t library_kernel() const { return filters * window[0] * window[1] * library_channels; }
};

// x, y: as in Device::ConvForward. `layout`: that of the images.
ConvGeometry ConvGeometryOf(const WindowArgs& args, const Shape& x, const Shape& y, Layout layout);

// True of kBf16 and kFloat16: factors are rounded to numbers of 16 bits.
bool IsRounded(ProductPrecision precision);

// Channels last where tensor cores take the product: they want sixteen bytes of channels at a time. What is missing of
// the input's channels is filled with zeros, since a factor of 16 bits is copied anyway and the samples' one or three
// channels are few; a wider input in TF32, or the output, would cost a copy of its own and stays row-major. So does
// what is computed in float, which the library does best row-major, in double, and in groups.
Layout ImageLayout(const WindowArgs& args, const Shape& x, const Shape& kernel, DType type);

}  // namespace lockstep::cuda
