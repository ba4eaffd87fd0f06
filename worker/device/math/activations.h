// SPDX-License-Identifier: Apache-2.0
// Element-wise functions, written once for every device and precision.
#pragma once

#include <math.h>
#include <string.h>

#include <cstdint>

#include "worker/device/device.h"
#include "worker/device/math/inline.h"

namespace lockstep {

namespace math {

LOCKSTEP_MATH double Exp(double x) { return ::exp(x); }

// About 1 ulp in [-87.3, 88.3]; 0 below, the largest value of the range above; NaN stays NaN.
// Range reduction by Cody and Waite; minimax coefficients of Cephes' expf.
LOCKSTEP_MATH float Exp(float x) {
  constexpr float kLow = -87.336540f, kHigh = 88.376260f;
  // Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the significand.
  constexpr float kRound = 12582912.0f;
  const float c = x < kLow ? kLow : (x > kHigh ? kHigh : x);
  const float t = c * 1.44269504088896341f + kRound;
  const float n = t - kRound;
  const float r = (c - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * (r * r) + r) + 1.0f;
  uint32_t bits;
  memcpy(&bits, &t, sizeof bits);
  bits = (bits + 127u) << 23;
  float scale;
  memcpy(&scale, &bits, sizeof scale);
  return x < kLow ? 0.0f : p * scale;
}

LOCKSTEP_MATH double TanhOf(double x) { return ::tanh(x); }

// Odd polynomial (Cephes' tanhf) where 1 - 2 / (exp(2x) + 1) would cancel.
LOCKSTEP_MATH float TanhOf(float x) {
  const float a = x < 0.0f ? -x : x;
  const float large = 1.0f - 2.0f / (Exp(2.0f * a) + 1.0f);
  const float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z + -5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z + -3.33332819422e-1f;
  const float small = p * z * x + x;
  return a < 0.625f ? small : (x < 0.0f ? -large : large);
}

}  // namespace math

// y = f(x) and f'(x) as a function of y.
struct ReluMath {
  template <typename T>
  LOCKSTEP_MATH static T Forward(T x) {
    // A NaN stays a NaN.
    return x < T(0) ? T(0) : x;
  }
  template <typename T>
  LOCKSTEP_MATH static T Gradient(T y) {
    return y > T(0) ? T(1) : T(0);
  }
};

struct SigmoidMath {
  template <typename T>
  LOCKSTEP_MATH static T Forward(T x) {
    // exp of a negative number only, so that it never overflows.
    const T e = math::Exp(x < T(0) ? x : -x);
    return (x < T(0) ? e : T(1)) / (T(1) + e);
  }
  template <typename T>
  LOCKSTEP_MATH static T Gradient(T y) {
    return y * (T(1) - y);
  }
};

struct TanhMath {
  template <typename T>
  LOCKSTEP_MATH static T Forward(T x) {
    return math::TanhOf(x);
  }
  template <typename T>
  LOCKSTEP_MATH static T Gradient(T y) {
    return T(1) - y * y;
  }
};

struct LinearMath {
  template <typename T>
  LOCKSTEP_MATH static T Forward(T x) {
    return x;
  }
  template <typename T>
  LOCKSTEP_MATH static T Gradient(T) {
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
