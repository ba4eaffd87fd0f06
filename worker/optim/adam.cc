// SPDX-License-Identifier: Apache-2.0
#include "worker/optim/adam.h"

#include <cmath>

namespace lockstep {

namespace {

class Adam final : public UpdateFormula {
 public:
  Adam(const AdamSettings& settings, bool amsgrad, double weight_decay)
      : settings_(settings),
        weight_decay_(weight_decay),
        pass_(AdamPass(amsgrad ? UpdateRule::kAmsgrad : UpdateRule::kAdam, settings)) {}

  double learning_rate() const override { return settings_.learning_rate; }
  double default_weight_decay() const override { return weight_decay_; }
  std::vector<StateName> state() const override {
    if (pass_.rule == UpdateRule::kAmsgrad) return {{"m"}, {"v"}, {"v_largest"}};
    return {{"m"}, {"v"}};
  }
  std::span<const UpdatePass> Prepare(double learning_rate, int64_t t) override {
    const auto n = static_cast<double>(t);
    pass_.args.step_size =
        learning_rate * std::sqrt(1.0 - std::pow(settings_.beta_2, n)) / (1.0 - std::pow(settings_.beta_1, n));
    return {&pass_, 1};
  }

 private:
  const AdamSettings settings_;
  const double weight_decay_;
  UpdatePass pass_;
};

}  // namespace

UpdatePass AdamPass(UpdateRule rule, const AdamSettings& settings) {
  UpdatePass pass{.rule = rule};
  pass.args.beta_1 = settings.beta_1;
  pass.args.beta_2 = settings.beta_2;
  pass.args.epsilon = settings.epsilon;
  return pass;
}

std::unique_ptr<UpdateFormula> MakeAdamOf(const AdamSettings& settings, bool amsgrad, double weight_decay) {
  return std::make_unique<Adam>(settings, amsgrad, weight_decay);
}

std::unique_ptr<UpdateFormula> MakeAdam(const v1::AdamOptimizer& spec) {
  return MakeAdamOf(ReadAdam(spec), spec.amsgrad(), 0);
}

}  // namespace lockstep
