// SPDX-License-Identifier: Apache-2.0
// LossScale: what the loss is multiplied by before backward and its gradient divided by after, so that small gradients
// are not lost in half precision. A power of two, so that both are exact. A function of the state, which is part of the
// trainer's: after a restart it goes on as if nothing had been. Micikevicius et al., "Mixed Precision Training", 2018.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lockstep/v1/job.pb.h"

namespace lockstep {

class LossScale {
 public:
  static constexpr double kDefaultScale = 32768;
  static constexpr int64_t kDefaultGrowthSteps = 2000;
  // A gradient that is not finite at 1 is not so because of the scale.
  static constexpr double kMin = 1;
  // Doubles past this would only lose large gradients.
  static constexpr double kMax = 16777216;
  // Numbers of state.
  static constexpr size_t kNumbers = 2;

  explicit LossScale(const lockstep::v1::LossScaleSpec& spec);

  std::vector<double> InitialState() const;
  // A power of two in [kMin, kMax], whatever the state holds.
  static double Scale(std::span<const double> state);
  // True: a step whose gradient is not finite is left out and the scale made smaller, no more.
  static bool CanShrink(std::span<const double> state) { return Scale(state) > kMin; }
  // Finite steps after which the scale grows, at least 1.
  int64_t StepsUntilGrowth(std::span<const double> state) const;
  // A step's gradient was finite, or not and the step was left out. Changes `state`. Allocates nothing.
  void Observe(bool finite, std::span<double> state) const;

 private:
  double initial_;
  double growth_steps_;
};

}  // namespace lockstep
