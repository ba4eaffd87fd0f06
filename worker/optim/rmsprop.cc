// SPDX-License-Identifier: Apache-2.0
#include "worker/optim/formula.h"

namespace lockstep {

namespace {

class Rmsprop final : public UpdateFormula {
 public:
  explicit Rmsprop(const v1::RmspropOptimizer& spec)
      : learning_rate_(spec.has_learning_rate() ? spec.learning_rate() : 0.001),
        centered_(spec.centered()),
        momentum_(spec.momentum() != 0) {
    pass_.rule = centered_ ? (momentum_ ? UpdateRule::kRmspropCenteredMomentum : UpdateRule::kRmspropCentered)
                           : (momentum_ ? UpdateRule::kRmspropMomentum : UpdateRule::kRmsprop);
    pass_.args.beta_1 = spec.momentum();
    pass_.args.beta_2 = spec.has_rho() ? spec.rho() : 0.9;
    pass_.args.epsilon = spec.has_epsilon() ? spec.epsilon() : 1e-7;
  }
  double learning_rate() const override { return learning_rate_; }
  std::vector<StateName> state() const override {
    std::vector<StateName> names{{"v"}};
    if (centered_) names.push_back({"mean"});
    if (momentum_) names.push_back({"buffer"});
    return names;
  }
  std::span<const UpdatePass> Prepare(double learning_rate, int64_t) override {
    pass_.args.step_size = learning_rate;
    return {&pass_, 1};
  }

 private:
  const double learning_rate_;
  const bool centered_;
  const bool momentum_;
  UpdatePass pass_;
};

}  // namespace

std::unique_ptr<UpdateFormula> MakeRmsprop(const v1::RmspropOptimizer& spec) { return std::make_unique<Rmsprop>(spec); }

}  // namespace lockstep
