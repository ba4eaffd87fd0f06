// SPDX-License-Identifier: Apache-2.0
// y = x W + b; dW = x^T dy; db = sum of dy over the rows; dx = dy W^T.
#include "worker/nn/layer.h"

namespace lockstep {

namespace {

class Dense final : public Layer {
 public:
  bool can_fuse() const override { return true; }

  void Forward(const LayerContext& context, std::span<const Tensor> parameters, std::span<const Tensor> x,
               Tensor y) override {
    const Tensor bias = parameters.size() > 1 ? parameters[1] : Tensor{};
    context.device->Gemm({.activation = context.fused_activation, .precision = context.precision}, x[0], parameters[0],
                         bias, y);
  }

  void Backward(const LayerContext& context, std::span<const Tensor> parameters, std::span<const Tensor> x, Tensor,
                Tensor dy, std::span<const Tensor> gradients, std::span<const Tensor> dx) override {
    Device& device = *context.device;
    device.Gemm({.transpose_a = true, .precision = context.precision}, x[0], dy, {}, gradients[0]);
    if (gradients.size() > 1) device.SumRows(dy, gradients[1]);
    if (dx[0].data == nullptr) return;
    device.Gemm({.transpose_b = true, .precision = context.precision}, dy, parameters[0], {}, dx[0]);
  }
};

}  // namespace

std::unique_ptr<Layer> MakeDense(const LayerPlan&) { return std::make_unique<Dense>(); }

}  // namespace lockstep
