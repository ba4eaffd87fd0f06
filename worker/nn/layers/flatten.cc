// SPDX-License-Identifier: Apache-2.0
// The same numbers under another shape: the model lets y be x.
#include "worker/nn/layer.h"

namespace lockstep {

namespace {

class Flatten final : public Layer {
 public:
  bool is_view() const override { return true; }
  void Forward(const StepContext& context, std::span<const Tensor>, Tensor x, Tensor y) override {
    if (x.data != y.data) context.device->ActivationForward(Activation::kLinear, x, y);
  }
  void Backward(const StepContext& context, std::span<const Tensor>, Tensor, Tensor, Tensor dy, std::span<const Tensor>,
                Tensor dx) override {
    if (dx.data != nullptr && dx.data != dy.data) context.device->ActivationForward(Activation::kLinear, dy, dx);
  }
};

}  // namespace

std::unique_ptr<Layer> MakeFlatten(const LayerPlan&) { return std::make_unique<Flatten>(); }

}  // namespace lockstep
