// SPDX-License-Identifier: Apache-2.0
// Activations as functors, the one source for the CPU loops and the device kernels. The float
// functions are plain multiplications and additions, so every instruction set gives the same bits.
// Backward works from y = f(x).
#pragma once

#include <math.h>
#include <string.h>

#include <cstdint>

#include "worker/device/math/inline.h"

namespace lockstep::math {

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

struct Linear {
  template <typename T>
  LOCKSTEP_MATH static T Forward(T x) {
    return x;
  }
  template <typename T>
  LOCKSTEP_MATH static T Backward(T, T dy) {
    return dy;
  }
};

// NaN passes through, so that a diverging model is seen.
struct Relu {
  template <typename T>
  LOCKSTEP_MATH static T Forward(T x) {
    return x < T(0) ? T(0) : x;
  }
  template <typename T>
  LOCKSTEP_MATH static T Backward(T y, T dy) {
    return y > T(0) ? dy : T(0);
  }
};

struct Sigmoid {
  template <typename T>
  LOCKSTEP_MATH static T Forward(T x) {
    return T(1) / (T(1) + Exp(-x));
  }
  template <typename T>
  LOCKSTEP_MATH static T Backward(T y, T dy) {
    return dy * (y * (T(1) - y));
  }
};

struct Tanh {
  template <typename T>
  LOCKSTEP_MATH static T Forward(T x) {
    return TanhOf(x);
  }
  template <typename T>
  LOCKSTEP_MATH static T Backward(T y, T dy) {
    return dy * (T(1) - y * y);
  }
};

}  // namespace lockstep::math
