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

LOCKSTEP_MATH double Log1pOfExp(double x) { return (x > 0 ? x : 0.0) + ::log1p(::exp(x > 0 ? -x : x)); }

// log(1 + exp(x)) = max(x, 0) + log(1 + e), e = exp(-|x|) <= 1, and log(1 + e) = 2 atanh(e / (2 + e)):
// the argument is at most 1/3, so eight terms of the series leave an error below 2^-24.
LOCKSTEP_MATH float Log1pOfExp(float x) {
  const float e = Exp(x > 0.0f ? -x : x);
  const float s = e / (2.0f + e);
  const float z = s * s;
  float p = 1.0f / 15.0f;
  p = p * z + 1.0f / 13.0f;
  p = p * z + 1.0f / 11.0f;
  p = p * z + 1.0f / 9.0f;
  p = p * z + 1.0f / 7.0f;
  p = p * z + 1.0f / 5.0f;
  p = p * z + 1.0f / 3.0f;
  const float log1p = 2.0f * (s + s * z * p);
  return (x > 0.0f ? x : 0.0f) + log1p;
}

LOCKSTEP_MATH double Erf(double x) { return ::erf(x); }

// Rational approximations of Cephes' erff and erfcf.
LOCKSTEP_MATH float Erf(float x) {
  const float z = x * x;
  float t = 7.853861353153693e-5f;
  t = t * z + -8.010193625184903e-4f;
  t = t * z + 5.188327685732524e-3f;
  t = t * z + -2.685381193529856e-2f;
  t = t * z + 1.128358514861418e-1f;
  t = t * z + -3.761262582423300e-1f;
  t = t * z + 1.128379165726710f;
  const float small = t * x;
  const float a = x < 0.0f ? -x : x;
  const float q = 1.0f / (a < 1.0f ? 1.0f : a), y = q * q;
  float p = 2.326819970068386e-2f;
  p = p * y + -1.387039388740657e-1f;
  p = p * y + 3.687424674597105e-1f;
  p = p * y + -5.824733027278666e-1f;
  p = p * y + 6.210004621745983e-1f;
  p = p * y + -4.944515323274145e-1f;
  p = p * y + 3.404879937665872e-1f;
  p = p * y + -2.741127028184656e-1f;
  p = p * y + 5.638259427386472e-1f;
  float r = -1.047766399936249e+1f;
  r = r * y + 1.297719955372516e+1f;
  r = r * y + -7.495518717768503e+0f;
  r = r * y + 2.921019019210786e+0f;
  r = r * y + -1.015265279202700e+0f;
  r = r * y + 4.218463358204948e-1f;
  r = r * y + -2.820767439740514e-1f;
  r = r * y + 5.641895067754075e-1f;
  const float tail = 1.0f - Exp(-z) * q * (a < 2.0f ? p : r);
  return a < 1.0f ? small : (x < 0.0f ? -tail : tail);
}

}  // namespace math

// y = f(x), and f'(x) as a function of x and y. A functor that does not use x in Gradient is given
// anything there: see GradientNeedsInput.
struct ReluMath {
  template <typename T>
  LOCKSTEP_MATH T Forward(T x) const {
    // A NaN stays a NaN.
    return x < T(0) ? T(0) : x;
  }
  template <typename T>
  LOCKSTEP_MATH T Gradient(T, T y) const {
    return y > T(0) ? T(1) : T(0);
  }
};

struct SigmoidMath {
  template <typename T>
  LOCKSTEP_MATH T Forward(T x) const {
    // exp of a negative number only, so that it never overflows.
    const T e = math::Exp(x < T(0) ? x : -x);
    return (x < T(0) ? e : T(1)) / (T(1) + e);
  }
  template <typename T>
  LOCKSTEP_MATH T Gradient(T, T y) const {
    return y * (T(1) - y);
  }
};

struct TanhMath {
  template <typename T>
  LOCKSTEP_MATH T Forward(T x) const {
    return math::TanhOf(x);
  }
  template <typename T>
  LOCKSTEP_MATH T Gradient(T, T y) const {
    return T(1) - y * y;
  }
};

struct LinearMath {
  template <typename T>
  LOCKSTEP_MATH T Forward(T x) const {
    return x;
  }
  template <typename T>
  LOCKSTEP_MATH T Gradient(T, T) const {
    return T(1);
  }
};

struct LeakyReluMath {
  double slope;
  template <typename T>
  LOCKSTEP_MATH T Forward(T x) const {
    return x < T(0) ? static_cast<T>(slope) * x : x;
  }
  template <typename T>
  LOCKSTEP_MATH T Gradient(T, T y) const {
    // The slope is not negative, so y has the sign of x; a slope of 0 leaves y = 0 below 0.
    return y > T(0) ? T(1) : static_cast<T>(slope);
  }
};

// scale x above 0, scale alpha (exp(x) - 1) below.
struct EluMath {
  double alpha;
  double scale;
  template <typename T>
  LOCKSTEP_MATH T Forward(T x) const {
    const T negative = static_cast<T>(scale * alpha) * (math::Exp(x < T(0) ? x : T(0)) - T(1));
    return x < T(0) ? negative : static_cast<T>(scale) * x;
  }
  template <typename T>
  LOCKSTEP_MATH T Gradient(T, T y) const {
    // Below 0, y may be 0: with an alpha of 0, or where it is rounded.
    return y > T(0) ? static_cast<T>(scale) : y + static_cast<T>(scale * alpha);
  }
};

struct GeluMath {
  template <typename T>
  LOCKSTEP_MATH T Forward(T x) const {
    return T(0.5) * x * (T(1) + math::Erf(x * T(0.70710678118654752440)));
  }
  template <typename T>
  LOCKSTEP_MATH T Gradient(T x, T) const {
    const T phi = T(0.39894228040143267794) * math::Exp(T(-0.5) * x * x);
    return T(0.5) * (T(1) + math::Erf(x * T(0.70710678118654752440))) + x * phi;
  }
};

struct GeluTanhMath {
  template <typename T>
  LOCKSTEP_MATH T Forward(T x) const {
    return T(0.5) * x * (T(1) + math::TanhOf(T(0.79788456080286535588) * (x + T(0.044715) * x * x * x)));
  }
  template <typename T>
  LOCKSTEP_MATH T Gradient(T x, T) const {
    const T t = math::TanhOf(T(0.79788456080286535588) * (x + T(0.044715) * x * x * x));
    const T inner = T(0.79788456080286535588) * (T(1) + T(3 * 0.044715) * x * x);
    return T(0.5) * (T(1) + t) + T(0.5) * x * (T(1) - t * t) * inner;
  }
};

struct SiluMath {
  template <typename T>
  LOCKSTEP_MATH T Forward(T x) const {
    return x * SigmoidMath{}.Forward(x);
  }
  template <typename T>
  LOCKSTEP_MATH T Gradient(T x, T) const {
    const T s = SigmoidMath{}.Forward(x);
    return s * (T(1) + x * (T(1) - s));
  }
};

struct HardSigmoidMath {
  template <typename T>
  LOCKSTEP_MATH T Forward(T x) const {
    const T y = x * T(1.0 / 6.0) + T(0.5);
    return y < T(0) ? T(0) : (y > T(1) ? T(1) : y);
  }
  template <typename T>
  LOCKSTEP_MATH T Gradient(T, T y) const {
    return y > T(0) && y < T(1) ? T(1.0 / 6.0) : T(0);
  }
};

struct SoftplusMath {
  template <typename T>
  LOCKSTEP_MATH T Forward(T x) const {
    return math::Log1pOfExp(x);
  }
  template <typename T>
  LOCKSTEP_MATH T Gradient(T, T y) const {
    // The sigmoid of x.
    return T(1) - math::Exp(-y);
  }
};

// Calls visit(Math{...}) for the function.
LOCKSTEP_CALLS_EITHER
template <typename Visit>
LOCKSTEP_HOST_DEVICE inline void VisitActivation(const ActivationArgs& args, Visit visit) {
  switch (args.kind) {
    case Activation::kLinear:
      return visit(LinearMath{});
    case Activation::kRelu:
      return visit(ReluMath{});
    case Activation::kLeakyRelu:
      return visit(LeakyReluMath{args.alpha});
    case Activation::kElu:
      return visit(EluMath{args.alpha, 1.0});
    case Activation::kSelu:
      return visit(EluMath{1.67326324235437728481, 1.05070098735548049342});
    case Activation::kGelu:
      return visit(GeluMath{});
    case Activation::kGeluTanh:
      return visit(GeluTanhMath{});
    case Activation::kSilu:
      return visit(SiluMath{});
    case Activation::kSigmoid:
      return visit(SigmoidMath{});
    case Activation::kHardSigmoid:
      return visit(HardSigmoidMath{});
    case Activation::kTanh:
      return visit(TanhMath{});
    case Activation::kSoftplus:
      return visit(SoftplusMath{});
  }
}

}  // namespace lockstep
