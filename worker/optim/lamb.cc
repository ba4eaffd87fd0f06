// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "worker/optim/adam.h"

namespace lockstep {

namespace {

// Adam's direction first, then its norm beside the weights', then the step.
class Lamb final : public UpdateFormula {
 public:
  explicit Lamb(const AdamSettings& settings)
      : settings_(settings),
        passes_{AdamPass(UpdateRule::kLambDirection, settings), UpdatePass{UpdateRule::kLambApply, {}, true}} {}

  double learning_rate() const override { return settings_.learning_rate; }
  bool decays_inside() const override { return true; }
  std::vector<StateName> state() const override { return {{"m"}, {"v"}}; }
  std::span<const UpdatePass> Prepare(double learning_rate, int64_t t) override {
    const auto n = static_cast<double>(t);
    passes_[0].args.correction_1 = 1.0 / (1.0 - std::pow(settings_.beta_1, n));
    passes_[0].args.correction_2 = 1.0 / (1.0 - std::pow(settings_.beta_2, n));
    passes_[1].args.step_size = learning_rate;
    return passes_;
  }

 private:
  const AdamSettings settings_;
  UpdatePass passes_[2];
};

}  // namespace

std::unique_ptr<UpdateFormula> MakeLamb(const v1::LambOptimizer& spec) {
  return std::make_unique<Lamb>(ReadAdam(spec));
}

}  // namespace lockstep
