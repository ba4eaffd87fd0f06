// SPDX-License-Identifier: Apache-2.0
// Layers without parameters that work on each element.
#include "worker/nn/layer.h"

namespace lockstep {

namespace {

class ActivationLayer final : public Layer {
 public:
  explicit ActivationLayer(const ActivationArgs& args) : args_(args) {}
  bool is_view() const override { return args_.linear(); }
  ActivationArgs fusable_activation() const override {
    return GradientNeedsInput(args_.kind) ? ActivationArgs{} : args_;
  }
  Layout PickLayout(const Device&, const LayoutChoice& choice) const override {
    return args_.linear() ? Layout::kRowMajor : choice.source;
  }
  void Forward(const LayerContext& context, std::span<const Tensor>, std::span<const Tensor> x, Tensor y) override {
    if (args_.linear() && x[0].data == y.data) return;
    context.device->ActivationForward(args_, x[0], y);
  }
  void Backward(const LayerContext& context, std::span<const Tensor>, std::span<const Tensor> x, Tensor y, Tensor dy,
                std::span<const Tensor>, std::span<const Tensor> dx) override {
    if (dx[0].data == nullptr || (args_.linear() && dx[0].data == dy.data)) return;
    context.device->ActivationBackward(args_, x[0], y, dy, dx[0]);
  }

 private:
  ActivationArgs args_;
};

std::unique_ptr<Layer> Make(Activation kind, double alpha = 0) {
  return std::make_unique<ActivationLayer>(ActivationArgs{kind, alpha});
}

}  // namespace

std::unique_ptr<Layer> MakeLinear(const LayerPlan&) { return Make(Activation::kLinear); }
std::unique_ptr<Layer> MakeRelu(const LayerPlan&) { return Make(Activation::kRelu); }
std::unique_ptr<Layer> MakeSelu(const LayerPlan&) { return Make(Activation::kSelu); }
std::unique_ptr<Layer> MakeSilu(const LayerPlan&) { return Make(Activation::kSilu); }
std::unique_ptr<Layer> MakeSigmoid(const LayerPlan&) { return Make(Activation::kSigmoid); }
std::unique_ptr<Layer> MakeHardSigmoid(const LayerPlan&) { return Make(Activation::kHardSigmoid); }
std::unique_ptr<Layer> MakeTanh(const LayerPlan&) { return Make(Activation::kTanh); }
std::unique_ptr<Layer> MakeSoftplus(const LayerPlan&) { return Make(Activation::kSoftplus); }

std::unique_ptr<Layer> MakeLeakyRelu(const LayerPlan& plan) {
  constexpr double kSlope = 0.3;
  const v1::LeakyReluLayer& spec = plan.spec.leaky_relu();
  return Make(Activation::kLeakyRelu, spec.has_negative_slope() ? spec.negative_slope() : kSlope);
}

std::unique_ptr<Layer> MakeElu(const LayerPlan& plan) {
  return Make(Activation::kElu, plan.spec.elu().has_alpha() ? plan.spec.elu().alpha() : 1.0);
}

std::unique_ptr<Layer> MakeGelu(const LayerPlan& plan) {
  return Make(plan.spec.gelu().approximate() ? Activation::kGeluTanh : Activation::kGelu);
}

}  // namespace lockstep
