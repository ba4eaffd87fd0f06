// SPDX-License-Identifier: Apache-2.0
#include "worker/optim/formula.h"

namespace lockstep {

namespace {

// Plain, momentum and Nesterov.
class Sgd final : public UpdateFormula {
 public:
  explicit Sgd(const v1::SgdOptimizer& spec) : learning_rate_(spec.has_learning_rate() ? spec.learning_rate() : 0.01) {
    pass_.args.beta_1 = spec.momentum();
    if (spec.momentum() != 0) pass_.rule = spec.nesterov() ? UpdateRule::kNesterov : UpdateRule::kMomentum;
  }
  double learning_rate() const override { return learning_rate_; }
  std::vector<StateName> state() const override {
    if (pass_.rule == UpdateRule::kSgd) return {};
    return {{"velocity"}};
  }
  std::span<const UpdatePass> Prepare(double learning_rate, int64_t) override {
    pass_.args.step_size = learning_rate;
    return {&pass_, 1};
  }

 private:
  const double learning_rate_;
  UpdatePass pass_;
};

}  // namespace

std::unique_ptr<UpdateFormula> MakeSgd(const v1::SgdOptimizer& spec) { return std::make_unique<Sgd>(spec); }

}  // namespace lockstep
