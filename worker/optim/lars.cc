// SPDX-License-Identifier: Apache-2.0
#include "worker/optim/formula.h"

namespace lockstep {

namespace {

class Lars final : public UpdateFormula {
 public:
  explicit Lars(const v1::LarsOptimizer& spec)
      : learning_rate_(spec.has_learning_rate() ? spec.learning_rate() : 0.01),
        pass_{.rule = UpdateRule::kLars, .norms = true} {
    pass_.args.beta_1 = spec.has_momentum() ? spec.momentum() : 0.9;
    pass_.args.trust = spec.has_trust_coefficient() ? spec.trust_coefficient() : 0.001;
    pass_.args.epsilon = spec.has_epsilon() ? spec.epsilon() : 1e-8;
  }
  double learning_rate() const override { return learning_rate_; }
  bool decays_inside() const override { return true; }
  std::vector<StateName> state() const override { return {{"velocity"}}; }
  std::span<const UpdatePass> Prepare(double learning_rate, int64_t) override {
    pass_.args.step_size = learning_rate;
    return {&pass_, 1};
  }

 private:
  const double learning_rate_;
  UpdatePass pass_;
};

}  // namespace

std::unique_ptr<UpdateFormula> MakeLars(const v1::LarsOptimizer& spec) { return std::make_unique<Lars>(spec); }

}  // namespace lockstep
