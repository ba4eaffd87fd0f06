// SPDX-License-Identifier: Apache-2.0
// Over the last axis.
#include "worker/nn/layer.h"

namespace lockstep {

namespace {

class Softmax final : public Layer {
 public:
  void Forward(const LayerContext& context, std::span<const Tensor>, std::span<const Tensor> x, Tensor y) override {
    context.device->SoftmaxForward(x[0], y);
  }
  void Backward(const LayerContext& context, std::span<const Tensor>, std::span<const Tensor>, Tensor y, Tensor dy,
                std::span<const Tensor>, std::span<const Tensor> dx) override {
    if (dx[0].data != nullptr) context.device->SoftmaxBackward(y, dy, dx[0]);
  }
};

class LogSoftmax final : public Layer {
 public:
  void Forward(const LayerContext& context, std::span<const Tensor>, std::span<const Tensor> x, Tensor y) override {
    context.device->LogSoftmaxForward(x[0], y);
  }
  void Backward(const LayerContext& context, std::span<const Tensor>, std::span<const Tensor>, Tensor y, Tensor dy,
                std::span<const Tensor>, std::span<const Tensor> dx) override {
    if (dx[0].data != nullptr) context.device->LogSoftmaxBackward(y, dy, dx[0]);
  }
};

}  // namespace

std::unique_ptr<Layer> MakeSoftmax(const LayerPlan&) { return std::make_unique<Softmax>(); }
std::unique_ptr<Layer> MakeLogSoftmax(const LayerPlan&) { return std::make_unique<LogSoftmax>(); }

}  // namespace lockstep
