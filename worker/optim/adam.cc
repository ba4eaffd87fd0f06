// SPDX-License-Identifier: Apache-2.0
#include "common/status_macros.h"
#include "worker/optim/registry.h"

namespace lockstep {

namespace {

class Adam final : public Optimizer {
 public:
  Adam(const v1::AdamOptimizer& spec, StateArray m, StateArray v) : m_(std::move(m)), v_(std::move(v)) {
    if (spec.has_learning_rate()) args_.learning_rate = spec.learning_rate();
    if (spec.has_beta_1()) args_.beta_1 = spec.beta_1();
    if (spec.has_beta_2()) args_.beta_2 = spec.beta_2();
    if (spec.has_epsilon()) args_.epsilon = spec.epsilon();
  }

  void Step(Device& device, Tensor parameters, Tensor gradient, double learning_rate, int64_t step) override {
    AdamArgs args = args_;
    args.learning_rate = learning_rate;
    args.t = step + 1;
    device.Adam(parameters, gradient, m_.tensor, v_.tensor, args);
  }
  std::vector<std::pair<std::string, Tensor>> State() override { return {{"m", m_.tensor}, {"v", v_.tensor}}; }
  double base_learning_rate() const override { return args_.learning_rate; }

 private:
  AdamArgs args_;
  StateArray m_;
  StateArray v_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Optimizer>> MakeAdam(const v1::AdamOptimizer& spec, Device& device, int64_t elements,
                                                    DType type) {
  LOCKSTEP_ASSIGN_OR_RETURN(StateArray m, StateArray::Make(device, elements, type));
  LOCKSTEP_ASSIGN_OR_RETURN(StateArray v, StateArray::Make(device, elements, type));
  return std::make_unique<Adam>(spec, std::move(m), std::move(v));
}

}  // namespace lockstep
