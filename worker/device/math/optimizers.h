// SPDX-License-Identifier: Apache-2.0
// One element's update, written once for every device and precision. Scalars are prepared on the host.
#pragma once

#include <cmath>

#include "common/rng.h"

namespace lockstep {

template <typename T>
struct SgdMath {
  T learning_rate;
  LOCKSTEP_HOST_DEVICE void operator()(T& w, T g) const { w -= learning_rate * g; }
};

template <typename T>
struct MomentumMath {
  T learning_rate;
  T momentum;
  bool nesterov;
  LOCKSTEP_HOST_DEVICE void operator()(T& w, T g, T& v) const {
    const T step = learning_rate * g;
    v = momentum * v - step;
    w += nesterov ? momentum * v - step : v;
  }
};

template <typename T>
struct AdamMath {
  // learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t).
  T step_size;
  T beta_1;
  T beta_2;
  T epsilon;
  LOCKSTEP_HOST_DEVICE void operator()(T& w, T g, T& m, T& v) const {
    m += (T(1) - beta_1) * (g - m);
    v += (T(1) - beta_2) * (g * g - v);
    w -= step_size * m / (std::sqrt(v) + epsilon);
  }
};

}  // namespace lockstep
