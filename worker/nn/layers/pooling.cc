// SPDX-License-Identifier: Apache-2.0
// Pooling; a global one has the whole image as its only window.
#include "worker/nn/layer.h"
#include "worker/nn/layers/window_args.h"

namespace lockstep {

namespace {

class PoolingLayer final : public Layer {
 public:
  PoolingLayer(Pooling kind, const LayerPlan& plan) : kind_(kind), args_(ArgsOf(WindowOf(plan))) {}
  bool can_fuse_source_gradient() const override { return true; }
  Layout PickLayout(const Device&, const LayoutChoice& choice) const override { return choice.source; }

  void Forward(const LayerContext& context, std::span<const Tensor>, std::span<const Tensor> x, Tensor y) override {
    context.device->PoolForward(kind_, args_, x[0], AsImages(y));
  }
  void Backward(const LayerContext& context, std::span<const Tensor>, std::span<const Tensor> x, Tensor y, Tensor dy,
                std::span<const Tensor>, std::span<const Tensor> dx) override {
    if (dx[0].data == nullptr) return;
    context.device->PoolBackward(kind_, args_, x[0], AsImages(y), AsImages(dy), context.source_activation, dx[0]);
  }

 private:
  // [rows, channels] of a global one as [rows, channels, 1, 1].
  static Tensor AsImages(Tensor t) { return t.shape.rank() == 4 ? t : t.Reshaped(Shape{t.shape[0], t.shape[1], 1, 1}); }
  Pooling kind_;
  WindowArgs args_;
};

std::unique_ptr<Layer> Make(Pooling kind, const LayerPlan& plan) { return std::make_unique<PoolingLayer>(kind, plan); }

}  // namespace

std::unique_ptr<Layer> MakeMaxPooling2d(const LayerPlan& plan) { return Make(Pooling::kMax, plan); }
std::unique_ptr<Layer> MakeAveragePooling2d(const LayerPlan& plan) { return Make(Pooling::kAverage, plan); }
std::unique_ptr<Layer> MakeGlobalMaxPooling2d(const LayerPlan& plan) { return Make(Pooling::kMax, plan); }
std::unique_ptr<Layer> MakeGlobalAveragePooling2d(const LayerPlan& plan) { return Make(Pooling::kAverage, plan); }

}  // namespace lockstep
