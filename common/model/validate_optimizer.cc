// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/model/checks.h"

namespace lockstep {

namespace {

// In [low, high); a NaN is never inside.
void CheckRange(Violations& violations, const std::string& field, double value, double low, double high) {
  if (!(value >= low && value < high)) {
    violations.Add(field, absl::StrCat("is ", value, "; must be at least ", low, " and below ", high));
  }
}
void CheckPositive(Violations& violations, const std::string& field, double value) {
  if (!(value > 0) || !std::isfinite(value))
    violations.Add(field, absl::StrCat("is ", value, "; must be greater than 0"));
}

}  // namespace

void CheckOptimizer(const v1::JobSpec& spec, Violations& violations) {
  switch (spec.optimizer().kind_case()) {
    case v1::OptimizerSpec::kSgd: {
      const v1::SgdOptimizer& sgd = spec.optimizer().sgd();
      if (sgd.has_learning_rate()) CheckPositive(violations, "optimizer.sgd.learning_rate", sgd.learning_rate());
      CheckRange(violations, "optimizer.sgd.momentum", sgd.momentum(), 0, 1);
      if (sgd.nesterov() && sgd.momentum() == 0)
        violations.Add("optimizer.sgd.nesterov", "needs a momentum greater than 0");
      return;
    }
    case v1::OptimizerSpec::kAdam: {
      const v1::AdamOptimizer& adam = spec.optimizer().adam();
      if (adam.has_learning_rate()) CheckPositive(violations, "optimizer.adam.learning_rate", adam.learning_rate());
      if (adam.has_beta_1()) CheckRange(violations, "optimizer.adam.beta_1", adam.beta_1(), 0, 1);
      if (adam.has_beta_2()) CheckRange(violations, "optimizer.adam.beta_2", adam.beta_2(), 0, 1);
      if (adam.has_epsilon()) CheckPositive(violations, "optimizer.adam.epsilon", adam.epsilon());
      return;
    }
    default:
      violations.Add("optimizer", "is missing; give sgd or adam");
  }
}

void CheckSchedule(const v1::JobSpec& spec, Violations& violations) {
  if (spec.has_schedule() && spec.schedule().kind_case() == v1::ScheduleSpec::KIND_NOT_SET) {
    violations.Add("schedule", "names no schedule; give constant or exponential_decay, or leave it out");
  }
  if (!spec.schedule().has_exponential_decay()) return;
  const v1::ExponentialDecaySchedule& decay = spec.schedule().exponential_decay();
  if (decay.decay_steps() < 1) {
    violations.Add("schedule.exponential_decay.decay_steps",
                   absl::StrCat("is ", decay.decay_steps(), "; must be at least 1"));
  }
  if (!(decay.decay_rate() > 0 && decay.decay_rate() <= 1)) {
    violations.Add("schedule.exponential_decay.decay_rate",
                   absl::StrCat("is ", decay.decay_rate(), "; must be greater than 0 and at most 1"));
  }
}

}  // namespace lockstep
