// SPDX-License-Identifier: Apache-2.0
// Derivatives without formulas: numbers that remember how they were computed, and the chain rule.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace lockstep::conformance {

class Tape;

// A number, and where a tape is given, its place there. The tape outlives it.
struct Var {
  Var() = default;
  // A constant.
  Var(double v) : value(v) {}  // NOLINT(google-explicit-constructor)
  Var(double v, Tape* t, int64_t i) : value(v), tape(t), index(i) {}

  double value = 0;
  Tape* tape = nullptr;
  int64_t index = -1;
};

class Tape {
 public:
  Var Leaf(double value) { return Push(value, {}, 0, {}, 0); }
  // A number with these derivatives by a and b.
  Var Push(double value, const Var& a, double da, const Var& b, double db) {
    steps_.push_back({a.index, b.index, da, db});
    return {value, this, static_cast<int64_t>(steps_.size()) - 1};
  }
  // The derivative of sum over i of seeds[i] outputs[i], by every number on the tape; see Of.
  void Differentiate(std::span<const Var> outputs, std::span<const double> seeds) {
    adjoints_.assign(steps_.size(), 0.0);
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].index >= 0) adjoints_[static_cast<size_t>(outputs[i].index)] += seeds[i];
    }
    for (size_t i = steps_.size(); i-- > 0;) {
      const Step& step = steps_[i];
      if (step.a >= 0) adjoints_[static_cast<size_t>(step.a)] += step.da * adjoints_[i];
      if (step.b >= 0) adjoints_[static_cast<size_t>(step.b)] += step.db * adjoints_[i];
    }
  }
  double Of(const Var& v) const { return v.index < 0 ? 0.0 : adjoints_[static_cast<size_t>(v.index)]; }

 private:
  struct Step {
    int64_t a, b;
    double da, db;
  };
  std::vector<Step> steps_;
  std::vector<double> adjoints_;
};

inline Var Combine(double value, const Var& a, double da, const Var& b, double db) {
  Tape* tape = a.tape != nullptr ? a.tape : b.tape;
  return tape == nullptr ? Var(value) : tape->Push(value, a, da, b, db);
}
inline Var operator+(const Var& a, const Var& b) { return Combine(a.value + b.value, a, 1, b, 1); }
inline Var operator-(const Var& a, const Var& b) { return Combine(a.value - b.value, a, 1, b, -1); }
inline Var operator*(const Var& a, const Var& b) { return Combine(a.value * b.value, a, b.value, b, a.value); }
inline Var operator/(const Var& a, const Var& b) {
  return Combine(a.value / b.value, a, 1 / b.value, b, -a.value / (b.value * b.value));
}
inline Var Exp(const Var& a) { return Combine(std::exp(a.value), a, std::exp(a.value), {}, 0); }
inline Var Log(const Var& a) { return Combine(std::log(a.value), a, 1 / a.value, {}, 0); }
inline Var Sqrt(const Var& a) { return Combine(std::sqrt(a.value), a, 0.5 / std::sqrt(a.value), {}, 0); }
inline Var Tanh(const Var& a) {
  const double t = std::tanh(a.value);
  return Combine(t, a, 1 - t * t, {}, 0);
}
// 2 / sqrt(pi) is the derivative's factor.
inline Var Erf(const Var& a) {
  return Combine(std::erf(a.value), a, 1.1283791670955126 * std::exp(-a.value * a.value), {}, 0);
}

}  // namespace lockstep::conformance
