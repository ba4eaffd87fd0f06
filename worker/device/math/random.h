// SPDX-License-Identifier: Apache-2.0
// Normal draws by inversion: one uniform number makes one normal number, so a draw is a function of its
// index alone, and a truncated one needs no second try. Only + - * / and square roots in double, each
// rounded once: the same bits on every machine.
#pragma once

#include <cstdint>
#include <cstring>

#include "worker/device/math/inline.h"

namespace lockstep::math {

// The natural logarithm of a normal x > 0, to about 2e-16: x = m 2^e with m in [sqrt(1/2), sqrt(2)), and
// log m = 2 atanh(s), s = (m - 1) / (m + 1), by its series.
LOCKSTEP_MATH double LogOf(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof(bits));
  int64_t exponent = static_cast<int64_t>(bits >> 52) - 1023;
  bits = (bits & 0x000FFFFFFFFFFFFFull) | 0x3FF0000000000000ull;
  double m;
  memcpy(&m, &bits, sizeof(m));
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1.0) / (m + 1.0), z = s * s;
  double sum = 0.0;
  for (int k = 25; k >= 3; k -= 2) sum = (sum + 1.0 / k) * z;
  return static_cast<double>(exponent) * 0.6931471805599453 + (2.0 * s + 2.0 * s * sum);
}

// The normal distribution's quantile of p in (0, 1), to about 1e-15. Wichura, Algorithm AS 241 (PPND16),
// Applied Statistics 37, 1988.
LOCKSTEP_MATH double NormalQuantile(double p) {
  const double q = p - 0.5;
  if ((q < 0 ? -q : q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return q *
           (((((((2.5090809287301226727e3 * r + 3.3430575583588128105e4) * r + 6.7265770927008700853e4) * r +
                4.5921953931549871457e4) *
                   r +
               1.3731693765509461125e4) *
                  r +
              1.9715909503065514427e3) *
                 r +
             1.3314166789178437745e2) *
                r +
            3.3871328727963666080e0) /
           (((((((5.2264952788528545610e3 * r + 2.8729085735721942674e4) * r + 3.9307895800092710610e4) * r +
                2.1213794301586595867e4) *
                   r +
               5.3941960214247511077e3) *
                  r +
              6.8718700749205790830e2) *
                 r +
             4.2313330701600911252e1) *
                r +
            1.0);
  }
  double r = __builtin_sqrt(-LogOf(q < 0 ? p : 1.0 - p));
  double x;
  if (r <= 5.0) {
    r -= 1.6;
    x = (((((((7.74545014278341407640e-4 * r + 2.27238449892691845833e-2) * r + 2.41780725177450611770e-1) * r +
             1.27045825245236838258e0) *
                r +
            3.64784832476320460504e0) *
               r +
           5.76949722146069140550e0) *
              r +
          4.63033784615654529590e0) *
             r +
         1.42343711074968357734e0) /
        (((((((1.05075007164441684324e-9 * r + 5.47593808499534494600e-4) * r + 1.51986665636164571966e-2) * r +
             1.48103976427480074590e-1) *
                r +
            6.89767334985100004550e-1) *
               r +
           1.67638483018380384940e0) *
              r +
          2.05319162663775882187e0) *
             r +
         1.0);
  } else {
    r -= 5.0;
    x = (((((((2.01033439929228813265e-7 * r + 2.71155556874348757815e-5) * r + 1.24266094738807843860e-3) * r +
             2.65321895265761230930e-2) *
                r +
            2.96560571828504891230e-1) *
               r +
           1.78482653991729133580e0) *
              r +
          5.46378491116411436990e0) *
             r +
         6.65790464350110377720e0) /
        (((((((2.04426310338993978564e-15 * r + 1.42151175831644588870e-7) * r + 1.84631831751005468180e-5) * r +
             7.86869131145613259100e-4) *
                r +
            1.48753612908506148525e-2) *
               r +
           1.36929880922735805310e-1) *
              r +
          5.99832206555887937690e-1) *
             r +
         1.0);
  }
  return q < 0 ? -x : x;
}

// Of the uniform word: all of the line, or its middle part from -2 to 2.
LOCKSTEP_MATH double NormalOf(uint32_t word, bool truncated) {
  // The normal distribution's share below -2.
  constexpr double kTail = 0.022750131948179209;
  const double u = (static_cast<double>(word) + 0.5) * (1.0 / 4294967296.0);
  return NormalQuantile(truncated ? kTail + u * (1.0 - 2.0 * kTail) : u);
}

// What dropout does to an element, given the word that is drawn for it.
template <typename T>
struct DropoutMath {
  // What is kept is multiplied by this.
  T keep_scale;
  // An element is kept where its word is at least this. A rate next to 1 may have been rounded to 1.
  uint32_t threshold;

  LOCKSTEP_MATH explicit DropoutMath(T rate) : keep_scale(T(1) / (T(1) - rate)) {
    const double share = static_cast<double>(rate) * 4294967296.0;
    threshold = static_cast<uint32_t>(share < 4294967295.0 ? share : 4294967295.0);
  }
  LOCKSTEP_MATH T operator()(uint32_t word, T x) const { return word >= threshold ? x * keep_scale : T(0); }
};

}  // namespace lockstep::math
