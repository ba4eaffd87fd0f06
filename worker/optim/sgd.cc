// SPDX-License-Identifier: Apache-2.0
#include "common/status_macros.h"
#include "worker/optim/registry.h"

namespace lockstep {

namespace {

constexpr double kLearningRate = 0.01;

class Sgd final : public Optimizer {
 public:
  Sgd(const v1::SgdOptimizer& spec, StateArray velocity) : spec_(spec), velocity_(std::move(velocity)) {}

  void Step(Device& device, Tensor parameters, Tensor gradient, double learning_rate, int64_t) override {
    if (velocity_.buffer == nullptr) {
      device.Sgd(parameters, gradient, learning_rate);
    } else {
      device.Momentum(parameters, gradient, velocity_.tensor, learning_rate, spec_.momentum(), spec_.nesterov());
    }
  }
  std::vector<std::pair<std::string, Tensor>> State() override {
    if (velocity_.buffer == nullptr) return {};
    return {{"velocity", velocity_.tensor}};
  }
  double base_learning_rate() const override {
    return spec_.has_learning_rate() ? spec_.learning_rate() : kLearningRate;
  }

 private:
  v1::SgdOptimizer spec_;
  // Empty without momentum.
  StateArray velocity_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Optimizer>> MakeSgd(const v1::SgdOptimizer& spec, Device& device, int64_t elements,
                                                   DType type) {
  StateArray velocity;
  if (spec.momentum() != 0) {
    LOCKSTEP_ASSIGN_OR_RETURN(velocity, StateArray::Make(device, elements, type));
  }
  return std::make_unique<Sgd>(spec, std::move(velocity));
}

}  // namespace lockstep
