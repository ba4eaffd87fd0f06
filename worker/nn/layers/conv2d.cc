// SPDX-License-Identifier: Apache-2.0
// Convolutions. A depthwise one is a convolution with as many groups as channels.
#include "common/model/layers/window.h"
#include "worker/nn/layer.h"
#include "worker/nn/layers/window_args.h"

namespace lockstep {

namespace {

class Conv2d final : public Layer {
 public:
  Conv2d(const WindowArgs& args, const LayerPlan& plan) : args_(args), kernel_(plan.parameters[0].shape) {}
  bool can_fuse() const override { return true; }
  bool can_fuse_source_gradient() const override { return true; }
  Layout PickLayout(const Device& device, const LayoutChoice& choice) const override {
    return device.ImageLayout(With(choice.precision), choice.x, kernel_, choice.type);
  }

  void Forward(const LayerContext& context, std::span<const Tensor> parameters, std::span<const Tensor> x,
               Tensor y) override {
    const Tensor bias = parameters.size() > 1 ? parameters[1] : Tensor{};
    context.device->ConvForward(With(context.precision), x[0], parameters[0], bias, context.fused_activation, y);
  }
  void Backward(const LayerContext& context, std::span<const Tensor> parameters, std::span<const Tensor> x, Tensor,
                Tensor dy, std::span<const Tensor> gradients, std::span<const Tensor> dx) override {
    const Tensor dbias = gradients.size() > 1 ? gradients[1] : Tensor{};
    const WindowArgs args = With(context.precision);
    context.device->ConvBackwardKernel(args, x[0], dy, gradients[0], dbias);
    if (dx[0].data == nullptr) return;
    context.device->ConvBackwardInput(args, dy, parameters[0], context.source_activation, x[0], dx[0]);
  }

 private:
  WindowArgs With(ProductPrecision precision) const {
    WindowArgs args = args_;
    args.precision = precision;
    return args;
  }

  WindowArgs args_;
  Shape kernel_;
};

}  // namespace

WindowArgs ArgsOf(const WindowPlan& window) {
  return {.size = window.size,
          .stride = window.stride,
          .dilation = window.dilation,
          .pad_begin = window.pad_begin,
          .pad_end = window.pad_end};
}

std::unique_ptr<Layer> MakeConv2d(const LayerPlan& plan) {
  WindowArgs args = ArgsOf(WindowOf(plan));
  args.groups = plan.spec.conv2d().groups() == 0 ? 1 : plan.spec.conv2d().groups();
  return std::make_unique<Conv2d>(args, plan);
}

std::unique_ptr<Layer> MakeDepthwiseConv2d(const LayerPlan& plan) {
  WindowArgs args = ArgsOf(WindowOf(plan));
  args.groups = plan.input[0];
  return std::make_unique<Conv2d>(args, plan);
}

}  // namespace lockstep
