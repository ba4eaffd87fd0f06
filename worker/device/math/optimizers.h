// SPDX-License-Identifier: Apache-2.0
// One element's update, written once for every device and precision. Scalars are prepared on the host;
// what depends on norms is worked out in double where the functor is made, on the device.
#pragma once

#include "worker/device/math/inline.h"
#include "worker/device/update.h"

namespace lockstep {

namespace math {
LOCKSTEP_MATH float Sqrt(float x) { return __builtin_sqrtf(x); }
LOCKSTEP_MATH double Sqrt(double x) { return __builtin_sqrt(x); }
template <typename T>
LOCKSTEP_MATH T Sign(T x) {
  return static_cast<T>(x > T(0)) - static_cast<T>(x < T(0));
}
// What a tensor's step is scaled by: |w| / |u|, or 1 where either is 0.
LOCKSTEP_MATH double NormRatio(const double* squares) {
  return squares[0] > 0 && squares[1] > 0 ? Sqrt(squares[0]) / Sqrt(squares[1]) : 1.0;
}
}  // namespace math

// What most functors do. T is float or double; states are passed behind w and g.
struct UpdateMath {
  static constexpr int kStates = 0;
  static constexpr bool kWritesWeight = true;
  static constexpr bool kWritesGradient = false;
};

template <typename T>
struct SgdMath : UpdateMath {
  T learning_rate;
  LOCKSTEP_MATH explicit SgdMath(const UpdateArgs& a) : learning_rate(static_cast<T>(a.step_size)) {}
  LOCKSTEP_MATH void operator()(T& w, T& g) const { w -= learning_rate * g; }
};

template <typename T>
struct MomentumMath : UpdateMath {
  static constexpr int kStates = 1;
  T learning_rate, momentum;
  LOCKSTEP_MATH explicit MomentumMath(const UpdateArgs& a)
      : learning_rate(static_cast<T>(a.step_size)), momentum(static_cast<T>(a.beta_1)) {}
  LOCKSTEP_MATH void operator()(T& w, T& g, T& v) const {
    v = momentum * v - learning_rate * g;
    w += v;
  }
};

template <typename T>
struct NesterovMath : UpdateMath {
  static constexpr int kStates = 1;
  T learning_rate, momentum;
  LOCKSTEP_MATH explicit NesterovMath(const UpdateArgs& a)
      : learning_rate(static_cast<T>(a.step_size)), momentum(static_cast<T>(a.beta_1)) {}
  LOCKSTEP_MATH void operator()(T& w, T& g, T& v) const {
    const T step = learning_rate * g;
    v = momentum * v - step;
    w += momentum * v - step;
  }
};

// The moments that Adam and its kin share.
template <typename T>
struct MomentsMath : UpdateMath {
  static constexpr int kStates = 2;
  T step_size, beta_1, beta_2, epsilon;
  LOCKSTEP_MATH explicit MomentsMath(const UpdateArgs& a)
      : step_size(static_cast<T>(a.step_size)),
        beta_1(static_cast<T>(a.beta_1)),
        beta_2(static_cast<T>(a.beta_2)),
        epsilon(static_cast<T>(a.epsilon)) {}
  LOCKSTEP_MATH void Move(T g, T& m, T& v) const {
    m += (T(1) - beta_1) * (g - m);
    v += (T(1) - beta_2) * (g * g - v);
  }
};

template <typename T>
struct AdamMath : MomentsMath<T> {
  LOCKSTEP_MATH explicit AdamMath(const UpdateArgs& a) : MomentsMath<T>(a) {}
  LOCKSTEP_MATH void operator()(T& w, T& g, T& m, T& v) const {
    this->Move(g, m, v);
    w -= this->step_size * m / (math::Sqrt(v) + this->epsilon);
  }
};

template <typename T>
struct AmsgradMath : MomentsMath<T> {
  static constexpr int kStates = 3;
  LOCKSTEP_MATH explicit AmsgradMath(const UpdateArgs& a) : MomentsMath<T>(a) {}
  LOCKSTEP_MATH void operator()(T& w, T& g, T& m, T& v, T& largest) const {
    this->Move(g, m, v);
    largest = v > largest ? v : largest;
    w -= this->step_size * m / (math::Sqrt(largest) + this->epsilon);
  }
};

template <typename T>
struct NadamMath : MomentsMath<T> {
  T gradient_step, correction;
  LOCKSTEP_MATH explicit NadamMath(const UpdateArgs& a)
      : MomentsMath<T>(a), gradient_step(static_cast<T>(a.gradient_step)), correction(static_cast<T>(a.correction_2)) {}
  LOCKSTEP_MATH void operator()(T& w, T& g, T& m, T& v) const {
    this->Move(g, m, v);
    w -= (this->step_size * m + gradient_step * g) / (math::Sqrt(v * correction) + this->epsilon);
  }
};

template <typename T>
struct AdagradMath : UpdateMath {
  static constexpr int kStates = 1;
  T learning_rate, epsilon;
  LOCKSTEP_MATH explicit AdagradMath(const UpdateArgs& a)
      : learning_rate(static_cast<T>(a.step_size)), epsilon(static_cast<T>(a.epsilon)) {}
  LOCKSTEP_MATH void operator()(T& w, T& g, T& sum) const {
    sum += g * g;
    w -= learning_rate * g / math::Sqrt(sum + epsilon);
  }
};

template <typename T, bool kCentered, bool kMomentum>
struct RmspropMath : UpdateMath {
  static constexpr int kStates = 1 + (kCentered ? 1 : 0) + (kMomentum ? 1 : 0);
  T learning_rate, rho, momentum, epsilon;
  LOCKSTEP_MATH explicit RmspropMath(const UpdateArgs& a)
      : learning_rate(static_cast<T>(a.step_size)),
        rho(static_cast<T>(a.beta_2)),
        momentum(static_cast<T>(a.beta_1)),
        epsilon(static_cast<T>(a.epsilon)) {}
  // The step without momentum.
  LOCKSTEP_MATH T Plain(T g, T& v) const {
    v += (T(1) - rho) * (g * g - v);
    return learning_rate * g / math::Sqrt(v + epsilon);
  }
  LOCKSTEP_MATH T Centered(T g, T& v, T& mean) const {
    v += (T(1) - rho) * (g * g - v);
    mean += (T(1) - rho) * (g - mean);
    // A variance, but for rounding.
    const T variance = v - mean * mean;
    return learning_rate * g / math::Sqrt((variance > T(0) ? variance : T(0)) + epsilon);
  }
  LOCKSTEP_MATH void operator()(T& w, T& g, T& v) const { w -= Plain(g, v); }
  LOCKSTEP_MATH void operator()(T& w, T& g, T& v, T& second) const {
    if constexpr (kCentered) {
      w -= Centered(g, v, second);
    } else {
      second = momentum * second + Plain(g, v);
      w -= second;
    }
  }
  LOCKSTEP_MATH void operator()(T& w, T& g, T& v, T& mean, T& buffer) const {
    buffer = momentum * buffer + Centered(g, v, mean);
    w -= buffer;
  }
};

template <typename T>
struct LionMath : UpdateMath {
  static constexpr int kStates = 1;
  T learning_rate, beta_1, beta_2;
  LOCKSTEP_MATH explicit LionMath(const UpdateArgs& a)
      : learning_rate(static_cast<T>(a.step_size)),
        beta_1(static_cast<T>(a.beta_1)),
        beta_2(static_cast<T>(a.beta_2)) {}
  LOCKSTEP_MATH void operator()(T& w, T& g, T& m) const {
    w -= learning_rate * math::Sign(beta_1 * m + (T(1) - beta_1) * g);
    m = beta_2 * m + (T(1) - beta_2) * g;
  }
};

template <typename T>
struct LarsMath : UpdateMath {
  static constexpr int kStates = 1;
  T rate, momentum, weight_decay;
  LOCKSTEP_MATH explicit LarsMath(const UpdateArgs& a)
      : rate(static_cast<T>(a.step_size * Ratio(a))),
        momentum(static_cast<T>(a.beta_1)),
        weight_decay(static_cast<T>(a.weight_decay)) {}
  LOCKSTEP_MATH static double Ratio(const UpdateArgs& a) {
    const double* squares = static_cast<const double*>(a.norms.data);
    if (!(squares[0] > 0 && squares[1] > 0)) return 1.0;
    const double w = math::Sqrt(squares[0]), g = math::Sqrt(squares[1]);
    return a.trust * w / (g + a.weight_decay * w + a.epsilon);
  }
  LOCKSTEP_MATH void operator()(T& w, T& g, T& v) const {
    v = momentum * v + rate * (g + weight_decay * w);
    w -= v;
  }
};

template <typename T>
struct LambDirectionMath : MomentsMath<T> {
  static constexpr bool kWritesWeight = false;
  static constexpr bool kWritesGradient = true;
  T weight_decay, correction_1, correction_2;
  LOCKSTEP_MATH explicit LambDirectionMath(const UpdateArgs& a)
      : MomentsMath<T>(a),
        weight_decay(static_cast<T>(a.weight_decay)),
        correction_1(static_cast<T>(a.correction_1)),
        correction_2(static_cast<T>(a.correction_2)) {}
  LOCKSTEP_MATH void operator()(T& w, T& g, T& m, T& v) const {
    this->Move(g, m, v);
    g = m * correction_1 / (math::Sqrt(v * correction_2) + this->epsilon) + weight_decay * w;
  }
};

template <typename T>
struct LambApplyMath : UpdateMath {
  T rate;
  LOCKSTEP_MATH explicit LambApplyMath(const UpdateArgs& a)
      : rate(static_cast<T>(a.step_size * math::NormRatio(static_cast<const double*>(a.norms.data)))) {}
  LOCKSTEP_MATH void operator()(T& w, T& g) const { w -= rate * g; }
};

// The gradient of l1 |w| + l2 w^2; none of |w| at 0.
template <typename T>
struct PenaltyMath : UpdateMath {
  static constexpr bool kWritesWeight = false;
  static constexpr bool kWritesGradient = true;
  T l1, twice_l2;
  LOCKSTEP_MATH explicit PenaltyMath(const UpdateArgs& a)
      : l1(static_cast<T>(a.l1)), twice_l2(static_cast<T>(2.0 * a.l2)) {}
  LOCKSTEP_MATH void operator()(T& w, T& g) const { g += l1 * math::Sign(w) + twice_l2 * w; }
};

template <typename T>
struct ClipValueMath : UpdateMath {
  static constexpr bool kWritesWeight = false;
  static constexpr bool kWritesGradient = true;
  T limit;
  LOCKSTEP_MATH explicit ClipValueMath(const UpdateArgs& a) : limit(static_cast<T>(a.limit)) {}
  LOCKSTEP_MATH void operator()(T&, T& g) const {
    g = g > limit ? limit : g;
    g = g < -limit ? -limit : g;
  }
};

template <typename T>
struct ClipNormMath : UpdateMath {
  static constexpr bool kWritesWeight = false;
  static constexpr bool kWritesGradient = true;
  T factor;
  LOCKSTEP_MATH explicit ClipNormMath(const UpdateArgs& a) : factor(static_cast<T>(Factor(a))) {}
  LOCKSTEP_MATH static double Factor(const UpdateArgs& a) {
    const double norm = math::Sqrt(*static_cast<const double*>(a.norms.data));
    return norm > a.limit ? a.limit / norm : 1.0;
  }
  LOCKSTEP_MATH void operator()(T&, T& g) const { g *= factor; }
};

// average = beta_1 average + beta_2 w, w in the gradient's place.
template <typename T>
struct AverageMath : UpdateMath {
  T keep, take;
  LOCKSTEP_MATH explicit AverageMath(const UpdateArgs& a)
      : keep(static_cast<T>(a.beta_1)), take(static_cast<T>(a.beta_2)) {}
  LOCKSTEP_MATH void operator()(T& average, T& w) const { average = keep * average + take * w; }
};

template <typename T>
struct SwapMath : UpdateMath {
  static constexpr bool kWritesGradient = true;
  LOCKSTEP_MATH explicit SwapMath(const UpdateArgs&) {}
  LOCKSTEP_MATH void operator()(T& a, T& b) const {
    const T old = a;
    a = b;
    b = old;
  }
};

// Calls visit(functor) with the rule's functor made of `args`.
template <typename T, typename Visit>
LOCKSTEP_MATH_CHOICE void VisitUpdate(UpdateRule rule, const UpdateArgs& args, const Visit& visit) {
  switch (rule) {
    case UpdateRule::kSgd:
      return visit(SgdMath<T>(args));
    case UpdateRule::kMomentum:
      return visit(MomentumMath<T>(args));
    case UpdateRule::kNesterov:
      return visit(NesterovMath<T>(args));
    case UpdateRule::kAdam:
      return visit(AdamMath<T>(args));
    case UpdateRule::kAmsgrad:
      return visit(AmsgradMath<T>(args));
    case UpdateRule::kNadam:
      return visit(NadamMath<T>(args));
    case UpdateRule::kAdagrad:
      return visit(AdagradMath<T>(args));
    case UpdateRule::kRmsprop:
      return visit(RmspropMath<T, false, false>(args));
    case UpdateRule::kRmspropMomentum:
      return visit(RmspropMath<T, false, true>(args));
    case UpdateRule::kRmspropCentered:
      return visit(RmspropMath<T, true, false>(args));
    case UpdateRule::kRmspropCenteredMomentum:
      return visit(RmspropMath<T, true, true>(args));
    case UpdateRule::kLion:
      return visit(LionMath<T>(args));
    case UpdateRule::kLars:
      return visit(LarsMath<T>(args));
    case UpdateRule::kLambDirection:
      return visit(LambDirectionMath<T>(args));
    case UpdateRule::kLambApply:
      return visit(LambApplyMath<T>(args));
    case UpdateRule::kPenalty:
      return visit(PenaltyMath<T>(args));
    case UpdateRule::kClipValue:
      return visit(ClipValueMath<T>(args));
    case UpdateRule::kClipNorm:
      return visit(ClipNormMath<T>(args));
    case UpdateRule::kAverage:
      return visit(AverageMath<T>(args));
    case UpdateRule::kSwap:
      return visit(SwapMath<T>(args));
  }
}

}  // namespace lockstep
