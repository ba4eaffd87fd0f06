// SPDX-License-Identifier: Apache-2.0
// Layers without parameters that work on each element.
#include "worker/nn/layer.h"

namespace lockstep {

namespace {

class ActivationLayer final : public Layer {
 public:
  explicit ActivationLayer(Activation kind) : kind_(kind) {}
  Activation fusable_activation() const override { return kind_; }
  void Forward(const StepContext& context, std::span<const Tensor>, Tensor x, Tensor y) override {
    context.device->ActivationForward(kind_, x, y);
  }
  void Backward(const StepContext& context, std::span<const Tensor>, Tensor, Tensor y, Tensor dy,
                std::span<const Tensor>, Tensor dx) override {
    if (dx.data != nullptr) context.device->ActivationBackward(kind_, y, dy, dx);
  }

 private:
  Activation kind_;
};

}  // namespace

std::unique_ptr<Layer> MakeRelu(const LayerPlan&) { return std::make_unique<ActivationLayer>(Activation::kRelu); }
std::unique_ptr<Layer> MakeSigmoid(const LayerPlan&) { return std::make_unique<ActivationLayer>(Activation::kSigmoid); }
std::unique_ptr<Layer> MakeTanh(const LayerPlan&) { return std::make_unique<ActivationLayer>(Activation::kTanh); }

}  // namespace lockstep
