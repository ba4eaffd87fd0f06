// SPDX-License-Identifier: Apache-2.0
#include "worker/optim/formula.h"

namespace lockstep {

namespace {

class Lion final : public UpdateFormula {
 public:
  explicit Lion(const v1::LionOptimizer& spec)
      : learning_rate_(spec.has_learning_rate() ? spec.learning_rate() : 0.001) {
    pass_.rule = UpdateRule::kLion;
    pass_.args.beta_1 = spec.has_beta_1() ? spec.beta_1() : 0.9;
    pass_.args.beta_2 = spec.has_beta_2() ? spec.beta_2() : 0.99;
  }
  double learning_rate() const override { return learning_rate_; }
  std::vector<StateName> state() const override { return {{"m"}}; }
  std::span<const UpdatePass> Prepare(double learning_rate, int64_t) override {
    pass_.args.step_size = learning_rate;
    return {&pass_, 1};
  }

 private:
  const double learning_rate_;
  UpdatePass pass_;
};

}  // namespace

std::unique_ptr<UpdateFormula> MakeLion(const v1::LionOptimizer& spec) { return std::make_unique<Lion>(spec); }

}  // namespace lockstep
