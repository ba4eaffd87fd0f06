// SPDX-License-Identifier: Apache-2.0
// Draws of one element from a counter stream.
#pragma once

#include "worker/device/math/inline.h"

namespace lockstep::math {

// In double, then rounded once, so that the precision of T does not move the draw.
template <typename T>
LOCKSTEP_MATH T UniformBetween(float u, double low, double high) {
  return static_cast<T>(low + (high - low) * static_cast<double>(u));
}

// Inverted dropout: u uniform in [0, 1), keep_scale = 1 / (1 - rate).
template <typename T>
LOCKSTEP_MATH T DropoutValue(T x, float u, float rate, T keep_scale) {
  return u < rate ? T(0) : x * keep_scale;
}

}  // namespace lockstep::math
