// SPDX-License-Identifier: Apache-2.0
// A convolution's product as cuDNN is asked for it, by either of its interfaces.
#pragma once

#include <array>
#include <cstdint>

#include "worker/device/cuda/conv_geometry.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

enum class ConvPass : uint8_t { kForward, kInput, kKernel };

struct ConvProduct {
  ConvPass pass = ConvPass::kForward;
  // Of images; kImages: channels last, and the kernel [filters, window, channels].
  Layout layout = Layout::kRowMajor;
  ConvGeometry geometry;
  std::array<int64_t, 2> stride{1, 1}, dilation{1, 1};
  int64_t groups = 1;
  ProductPrecision precision = ProductPrecision::kFloat;

  // Channels of the kernel.
  int64_t depth() const { return geometry.library_channels / groups; }
};

// More scratch memory than this is not worth what it speeds up.
inline constexpr size_t kConvWorkspaceLimit = size_t{1} << 30;

}  // namespace lockstep::cuda
