// SPDX-License-Identifier: Apache-2.0
// How a convolution is told to a library that pads both ends of an image alike.
#pragma once

#include <array>
#include <cstdint>

#include "worker/device/device.h"

namespace lockstep::cuda {

struct ConvGeometry {
  int64_t rows = 0, channels = 0, filters = 0;
  // Index 0 is the height.
  std::array<int64_t, 2> in{}, out{};
  // True: the images have to be copied into larger ones, with zeros around them.
  bool copied = false;
  // What the library is told: the images' size, and the zeros at both ends.
  std::array<int64_t, 2> size{}, pad{};
  // Where an image begins in its copy.
  std::array<int64_t, 2> begin{};
};

// x, y: as in Device::ConvForward.
ConvGeometry ConvGeometryOf(const WindowArgs& args, const Shape& x, const Shape& y);

}  // namespace lockstep::cuda
