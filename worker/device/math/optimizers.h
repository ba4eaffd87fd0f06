// SPDX-License-Identifier: Apache-2.0
// One element's update, written once for every device and precision. Scalars are prepared on the host.
#pragma once

#include "worker/device/math/inline.h"

namespace lockstep {

namespace math {
LOCKSTEP_MATH float Sqrt(float x) { return __builtin_sqrtf(x); }
LOCKSTEP_MATH double Sqrt(double x) { return __builtin_sqrt(x); }
}  // namespace math

template <typename T>
struct SgdMath {
  T learning_rate;
  LOCKSTEP_MATH void operator()(T& w, T g) const { w -= learning_rate * g; }
};

template <typename T>
struct MomentumMath {
  T learning_rate;
  T momentum;
  bool nesterov;
  LOCKSTEP_MATH void operator()(T& w, T g, T& v) const {
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
  LOCKSTEP_MATH void operator()(T& w, T g, T& m, T& v) const {
    m += (T(1) - beta_1) * (g - m);
    v += (T(1) - beta_2) * (g * g - v);
    w -= step_size * m / (math::Sqrt(v) + epsilon);
  }
};

}  // namespace lockstep
