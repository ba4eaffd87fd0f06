// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include "worker/device/tensor.h"

namespace lockstep {

// The same tensor with another length of its first axis.
inline Tensor FirstRows(const Tensor& t, int64_t rows) {
  std::array<int64_t, Shape::kMaxRank> dims{};
  std::ranges::copy(t.shape.dims(), dims.begin());
  dims[0] = rows;
  return t.Reshaped(Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(t.shape.rank()))));
}

}  // namespace lockstep
