// SPDX-License-Identifier: Apache-2.0
// y = x W + b; dW = x^T dy; db = sum of dy over the rows; dx = dy W^T, times the gradient of what put out x.
#include "worker/nn/layer.h"

namespace lockstep {

namespace {

// Scratch: what the product leaves behind for the gradient of its activation.
class Dense final : public Layer {
 public:
  explicit Dense(int64_t units) : units_(units) {}
  bool can_fuse() const override { return true; }
  bool can_fuse_source_gradient() const override { return true; }
  bool only_multiplies() const override { return true; }
  int64_t scratch_size(int64_t rows) const override { return GemmMaskElements(rows, units_); }

  void Forward(const LayerContext& context, std::span<const Tensor> parameters, std::span<const Tensor> x,
               Tensor y) override {
    const Tensor bias = parameters.size() > 1 ? parameters[1] : Tensor{};
    GemmArgs args{.activation = context.fused_activation, .precision = context.precision};
    if (context.training && !args.activation.linear()) args.mask = context.scratch;
    context.device->Gemm(args, x[0], parameters[0], bias, y);
  }

  void Backward(const LayerContext& context, std::span<const Tensor> parameters, std::span<const Tensor> x, Tensor,
                Tensor dy, std::span<const Tensor> gradients, std::span<const Tensor> dx) override {
    Device& device = *context.device;
    if (context.deferred != nullptr && context.deferred->x.data == nullptr && x[0].columns != nullptr) {
      *context.deferred = {x[0], dy, gradients[0]};
      if (gradients.size() > 1) device.SumRows(dy, gradients[1]);
      // Only samples have some columns alone, and nobody wants their gradient.
      return;
    }
    GemmArgs of_kernel{.transpose_a = true, .precision = context.precision};
    if (gradients.size() > 1) of_kernel.row_sums = gradients[1];
    device.Gemm(of_kernel, x[0], dy, {}, gradients[0]);
    if (dx[0].data == nullptr) return;
    GemmArgs of_input{.transpose_b = true, .precision = context.precision};
    of_input.before = context.source_activation;
    if (!of_input.before.linear()) {
      of_input.source = x[0];
      of_input.mask = context.source_scratch;
    }
    device.Gemm(of_input, dy, parameters[0], {}, dx[0]);
  }

 private:
  int64_t units_;
};

}  // namespace

std::unique_ptr<Layer> MakeDense(const LayerPlan& plan) {
  return std::make_unique<Dense>(plan.output[plan.output.rank() - 1]);
}

}  // namespace lockstep
