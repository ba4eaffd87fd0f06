// SPDX-License-Identifier: Apache-2.0
// One output's loss and its derivative, written once for every device. In double whatever the outputs'
// type: a loss has few elements, and its sum is looked at closely. Formulas in loss.proto.
#pragma once

#include <math.h>

#include "worker/device/device.h"
#include "worker/device/math/inline.h"

namespace lockstep {

namespace math {

// What Keras clamps probabilities to.
inline constexpr double kProbabilityFloor = 1e-7;

// NaN stays NaN.
LOCKSTEP_MATH double Clamp(double x, double low, double high) { return x < low ? low : (x > high ? high : x); }

}  // namespace math

// p: the output; t: the target. Gradient is dValue/dp; of what is clamped, the derivative at the clamped
// value, so that an output outside is still moved.
struct SquaredErrorMath {
  double unused;
  LOCKSTEP_MATH double Value(double p, double t) const { return (p - t) * (p - t); }
  LOCKSTEP_MATH double Gradient(double p, double t) const { return 2.0 * (p - t); }
};

struct AbsoluteErrorMath {
  double unused;
  LOCKSTEP_MATH double Value(double p, double t) const { return ::fabs(p - t); }
  // 0 where p = t, as of every subgradient the smallest.
  LOCKSTEP_MATH double Gradient(double p, double t) const { return p > t ? 1.0 : (p < t ? -1.0 : 0.0); }
};

struct HuberMath {
  double delta;
  LOCKSTEP_MATH double Value(double p, double t) const {
    const double d = ::fabs(p - t);
    return d <= delta ? 0.5 * d * d : delta * (d - 0.5 * delta);
  }
  LOCKSTEP_MATH double Gradient(double p, double t) const { return math::Clamp(p - t, -delta, delta); }
};

struct HingeMath {
  double unused;
  LOCKSTEP_MATH double Value(double p, double t) const {
    const double short_of = 1.0 - t * p;
    // A NaN stays a NaN.
    return short_of < 0.0 ? 0.0 : short_of;
  }
  LOCKSTEP_MATH double Gradient(double p, double t) const { return 1.0 - t * p > 0.0 ? -t : 0.0; }
};

struct BinaryCrossentropyMath {
  double label_smoothing;
  LOCKSTEP_MATH double Smooth(double t) const { return t * (1.0 - label_smoothing) + 0.5 * label_smoothing; }
  LOCKSTEP_MATH double Value(double p, double t) const {
    const double c = math::Clamp(p, math::kProbabilityFloor, 1.0 - math::kProbabilityFloor), s = Smooth(t);
    return -(s * ::log(c) + (1.0 - s) * ::log1p(-c));
  }
  LOCKSTEP_MATH double Gradient(double p, double t) const {
    const double c = math::Clamp(p, math::kProbabilityFloor, 1.0 - math::kProbabilityFloor);
    return (c - Smooth(t)) / (c * (1.0 - c));
  }
};

struct BinaryCrossentropyOnLogitsMath {
  double label_smoothing;
  LOCKSTEP_MATH double Smooth(double t) const { return t * (1.0 - label_smoothing) + 0.5 * label_smoothing; }
  LOCKSTEP_MATH double Value(double p, double t) const {
    // -(s log(sigmoid(p)) + (1 - s) log(1 - sigmoid(p))) without overflow.
    return (p < 0.0 ? 0.0 : p) - p * Smooth(t) + ::log1p(::exp(-::fabs(p)));
  }
  LOCKSTEP_MATH double Gradient(double p, double t) const {
    const double e = ::exp(-::fabs(p));
    return (p < 0.0 ? e : 1.0) / (1.0 + e) - Smooth(t);
  }
};

struct KlDivergenceMath {
  double unused;
  LOCKSTEP_MATH static double Clamp(double x) { return math::Clamp(x, math::kProbabilityFloor, 1.0); }
  LOCKSTEP_MATH double Value(double p, double t) const { return Clamp(t) * ::log(Clamp(t) / Clamp(p)); }
  LOCKSTEP_MATH double Gradient(double p, double t) const { return -Clamp(t) / Clamp(p); }
};

// Calls visit(Math{parameter}) for the kind.
template <typename Visit>
void VisitElementLoss(const ElementLossArgs& args, Visit visit) {
  switch (args.kind) {
    case ElementLossKind::kSquaredError:
      return visit(SquaredErrorMath{});
    case ElementLossKind::kAbsoluteError:
      return visit(AbsoluteErrorMath{});
    case ElementLossKind::kHuber:
      return visit(HuberMath{args.parameter});
    case ElementLossKind::kHinge:
      return visit(HingeMath{});
    case ElementLossKind::kBinaryCrossentropy:
      return visit(BinaryCrossentropyMath{args.parameter});
    case ElementLossKind::kBinaryCrossentropyOnLogits:
      return visit(BinaryCrossentropyOnLogitsMath{args.parameter});
    case ElementLossKind::kKlDivergence:
      return visit(KlDivergenceMath{});
  }
}

}  // namespace lockstep
