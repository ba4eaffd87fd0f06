// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "worker/optim/optimizer.h"

namespace lockstep {

double LearningRate(const v1::ScheduleSpec& spec, double base, int64_t step) {
  switch (spec.kind_case()) {
    case v1::ScheduleSpec::kExponentialDecay: {
      const v1::ExponentialDecaySchedule& decay = spec.exponential_decay();
      double exponent = static_cast<double>(step) / static_cast<double>(decay.decay_steps());
      if (decay.staircase()) exponent = std::floor(exponent);
      return base * std::pow(decay.decay_rate(), exponent);
    }
    default:
      break;
  }
  return base;
}

}  // namespace lockstep
