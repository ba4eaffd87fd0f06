// SPDX-License-Identifier: Apache-2.0
// Adam's numbers, which AdamW, NAdam and LAMB have too, under the same names.
#pragma once

#include "worker/optim/formula.h"

namespace lockstep {

struct AdamSettings {
  double learning_rate = 0.001;
  double beta_1 = 0.9;
  double beta_2 = 0.999;
  double epsilon = 1e-7;
};

template <typename Spec>
AdamSettings ReadAdam(const Spec& spec) {
  AdamSettings settings;
  if (spec.has_learning_rate()) settings.learning_rate = spec.learning_rate();
  if (spec.has_beta_1()) settings.beta_1 = spec.beta_1();
  if (spec.has_beta_2()) settings.beta_2 = spec.beta_2();
  if (spec.has_epsilon()) settings.epsilon = spec.epsilon();
  return settings;
}

// A pass with what never changes filled in.
UpdatePass AdamPass(UpdateRule rule, const AdamSettings& settings);

std::unique_ptr<UpdateFormula> MakeAdamOf(const AdamSettings& settings, bool amsgrad, double weight_decay);

}  // namespace lockstep
