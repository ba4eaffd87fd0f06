// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "worker/optim/adam.h"

namespace lockstep {

namespace {

class Nadam final : public UpdateFormula {
 public:
  explicit Nadam(const AdamSettings& settings) : settings_(settings), pass_(AdamPass(UpdateRule::kNadam, settings)) {}

  double learning_rate() const override { return settings_.learning_rate; }
  std::vector<StateName> state() const override { return {{"m"}, {"v"}}; }
  std::span<const UpdatePass> Prepare(double learning_rate, int64_t t) override {
    // The product is a function of t: after a restart it is made anew, factor by factor.
    if (t < factors_) {
      factors_ = 0;
      product_ = 1;
    }
    while (factors_ < t) product_ *= Momentum(++factors_);
    const double now = Momentum(t), next = Momentum(t + 1);
    pass_.args.step_size = learning_rate * next / (1.0 - product_ * next);
    pass_.args.gradient_step = learning_rate * (1.0 - now) / (1.0 - product_);
    pass_.args.correction_2 = 1.0 / (1.0 - std::pow(settings_.beta_2, static_cast<double>(t)));
    return {&pass_, 1};
  }

 private:
  double Momentum(int64_t t) const { return settings_.beta_1 * (1.0 - 0.5 * std::pow(0.96, static_cast<double>(t))); }

  const AdamSettings settings_;
  UpdatePass pass_;
  // u_1 ... u_t of the newest t.
  double product_ = 1;
  int64_t factors_ = 0;
};

}  // namespace

std::unique_ptr<UpdateFormula> MakeNadam(const v1::NadamOptimizer& spec) {
  return std::make_unique<Nadam>(ReadAdam(spec));
}

}  // namespace lockstep
