// SPDX-License-Identifier: Apache-2.0
// Loss terms of one element or row.
#pragma once

#include "worker/device/math/inline.h"

namespace lockstep::math {

// A probability as the logarithm sees it: Keras clamps to [1e-7, 1].
template <typename T>
LOCKSTEP_MATH T ClampProbability(T p) {
  return p < T(1e-7) ? T(1e-7) : (p > T(1) ? T(1) : p);
}

// d/dp of -log(p), times scale.
template <typename T>
LOCKSTEP_MATH T CrossEntropyGradient(T p, T scale) {
  return -scale / ClampProbability(p);
}

// d/dlogit of softmax and cross-entropy, times scale; e: exp(logit - max), inverse: 1 / sum of e.
template <typename T>
LOCKSTEP_MATH T SoftmaxCrossEntropyGradient(T e, T inverse, bool is_label, T scale) {
  return (e * inverse - (is_label ? T(1) : T(0))) * scale;
}

// d/dp of (p - t)^2, times scale2 = 2 scale / n.
template <typename T>
LOCKSTEP_MATH T SquaredErrorGradient(T p, T t, T scale2) {
  return (p - t) * scale2;
}

}  // namespace lockstep::math
