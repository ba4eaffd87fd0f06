// SPDX-License-Identifier: Apache-2.0
// Every tolerance of the conformance tests, derived and not tuned.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "worker/device/tensor.h"

namespace lockstep::conformance {

// Relative to the magnitude of the terms: a sum of n rounded terms is off by at most about n epsilon,
// and the elementary functions add a few epsilon of their own.
inline double Tolerance(DType type, int64_t reduction_length) {
  const double epsilon =
      type == DType::kF64 ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
  return (static_cast<double>(reduction_length) + 8.0) * epsilon;
}

// BF16 has 8 bits of mantissa: a factor is off by at most 2^-9 of itself, a product by twice that and its square.
inline double Bf16Tolerance(int64_t reduction_length) {
  constexpr double kRounding = 0x1p-9;
  return 2 * kRounding + kRounding * kRounding + Tolerance(DType::kF32, reduction_length);
}

// A central difference with step h is off by h^2 / 6 f''' and by epsilon |f| / h. At h = epsilon^(1/3)
// both are about epsilon^(2/3); f''' of the functions here is below 8, and f sums `terms` values.
inline constexpr double kDifferenceStep = 6.0554544523933395e-06;
inline double DifferenceTolerance(int64_t terms) {
  return (8.0 + static_cast<double>(terms)) * kDifferenceStep * kDifferenceStep;
}

// |a - b| relative to the larger of `scale` and the two.
inline double RelativeError(double a, double b, double scale = 1.0) {
  return std::abs(a - b) / std::max({scale, std::abs(a), std::abs(b)});
}

}  // namespace lockstep::conformance
