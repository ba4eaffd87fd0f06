// SPDX-License-Identifier: Apache-2.0
// Optimizer updates of one element. Formulas: SgdOptimizer and AdamOptimizer in model.proto.
#pragma once

#include <math.h>

#include "worker/device/math/inline.h"

namespace lockstep::math {

LOCKSTEP_MATH float Sqrt(float x) { return __builtin_sqrtf(x); }
LOCKSTEP_MATH double Sqrt(double x) { return __builtin_sqrt(x); }

template <typename T>
struct SgdUpdate {
  T learning_rate;
  LOCKSTEP_MATH T operator()(T w, T g) const { return w - learning_rate * g; }
};

template <typename T>
struct MomentumUpdate {
  T learning_rate;
  T momentum;
  // Returns the new weight and replaces v.
  template <bool kNesterov>
  LOCKSTEP_MATH T Apply(T w, T g, T& v) const {
    const T step = learning_rate * g;
    v = momentum * v - step;
    return kNesterov ? w + (momentum * v - step) : w + v;
  }
};

template <typename T>
struct AdamUpdate {
  // lr sqrt(1 - beta_2^t) / (1 - beta_1^t), worked out once in double.
  T step_size;
  T beta_1;
  T one_minus_beta_1;
  T beta_2;
  T one_minus_beta_2;
  T epsilon;
  LOCKSTEP_MATH T Apply(T w, T g, T& m, T& v) const {
    m = beta_1 * m + one_minus_beta_1 * g;
    v = beta_2 * v + one_minus_beta_2 * (g * g);
    return w - step_size * m / (Sqrt(v) + epsilon);
  }
};

// The constants of one Adam step, from the host. learning rate, betas and epsilon as in AdamArgs; t from 1.
template <typename T>
LOCKSTEP_MATH AdamUpdate<T> MakeAdamUpdate(double learning_rate, double beta_1, double beta_2, double epsilon, double t) {
  const double step_size = learning_rate * ::sqrt(1.0 - ::pow(beta_2, t)) / (1.0 - ::pow(beta_1, t));
  return {static_cast<T>(step_size),    static_cast<T>(beta_1),  static_cast<T>(1.0 - beta_1), static_cast<T>(beta_2),
          static_cast<T>(1.0 - beta_2), static_cast<T>(epsilon)};
}

}  // namespace lockstep::math
