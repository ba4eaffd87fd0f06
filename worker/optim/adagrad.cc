// SPDX-License-Identifier: Apache-2.0
#include "worker/optim/formula.h"

namespace lockstep {

namespace {

class Adagrad final : public UpdateFormula {
 public:
  explicit Adagrad(const v1::AdagradOptimizer& spec)
      : learning_rate_(spec.has_learning_rate() ? spec.learning_rate() : 0.001),
        start_(spec.has_initial_accumulator_value() ? spec.initial_accumulator_value() : 0.1) {
    pass_.rule = UpdateRule::kAdagrad;
    pass_.args.epsilon = spec.has_epsilon() ? spec.epsilon() : 1e-7;
  }
  double learning_rate() const override { return learning_rate_; }
  std::vector<StateName> state() const override { return {{"accumulator", start_}}; }
  std::span<const UpdatePass> Prepare(double learning_rate, int64_t) override {
    pass_.args.step_size = learning_rate;
    return {&pass_, 1};
  }

 private:
  const double learning_rate_;
  const double start_;
  UpdatePass pass_;
};

}  // namespace

std::unique_ptr<UpdateFormula> MakeAdagrad(const v1::AdagradOptimizer& spec) { return std::make_unique<Adagrad>(spec); }

}  // namespace lockstep
