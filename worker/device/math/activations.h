// SPDX-License-Identifier: Apache-2.0
// Element-wise functions, written once for every device and precision.
#pragma once

#include <cmath>

#include "common/rng.h"
#include "worker/device/device.h"

namespace lockstep {

// y = f(x) and f'(x) as a function of y.
struct ReluMath {
  template <typename T>
  LOCKSTEP_HOST_DEVICE static T Forward(T x) {
    // A NaN stays a NaN.
    return x < T(0) ? T(0) : x;
  }
  template <typename T>
  LOCKSTEP_HOST_DEVICE static T Gradient(T y) {
    return y > T(0) ? T(1) : T(0);
  }
};

struct SigmoidMath {
  template <typename T>
  LOCKSTEP_HOST_DEVICE static T Forward(T x) {
    // exp of a negative number only, so that it never overflows.
    const T e = std::exp(x < T(0) ? x : -x);
    return (x < T(0) ? e : T(1)) / (T(1) + e);
  }
  template <typename T>
  LOCKSTEP_HOST_DEVICE static T Gradient(T y) {
    return y * (T(1) - y);
  }
};

struct TanhMath {
  template <typename T>
  LOCKSTEP_HOST_DEVICE static T Forward(T x) {
    return std::tanh(x);
  }
  template <typename T>
  LOCKSTEP_HOST_DEVICE static T Gradient(T y) {
    return T(1) - y * y;
  }
};

struct LinearMath {
  template <typename T>
  LOCKSTEP_HOST_DEVICE static T Forward(T x) {
    return x;
  }
  template <typename T>
  LOCKSTEP_HOST_DEVICE static T Gradient(T) {
    return T(1);
  }
};

// Calls visit(Math{}) for the kind.
template <typename Visit>
void VisitActivation(Activation kind, Visit visit) {
  switch (kind) {
    case Activation::kLinear:
      return visit(LinearMath{});
    case Activation::kRelu:
      return visit(ReluMath{});
    case Activation::kSigmoid:
      return visit(SigmoidMath{});
    case Activation::kTanh:
      return visit(TanhMath{});
  }
}

}  // namespace lockstep
