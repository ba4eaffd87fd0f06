// SPDX-License-Identifier: Apache-2.0
#include "worker/nn/layer.h"

namespace lockstep {

namespace {

class Softmax final : public Layer {
 public:
  void Forward(const StepContext& context, std::span<const Tensor>, Tensor x, Tensor y) override {
    context.device->SoftmaxForward(x, y);
  }
  void Backward(const StepContext& context, std::span<const Tensor>, Tensor, Tensor y, Tensor dy,
                std::span<const Tensor>, Tensor dx) override {
    if (dx.data != nullptr) context.device->SoftmaxBackward(y, dy, dx);
  }
};

}  // namespace

std::unique_ptr<Layer> MakeSoftmax(const LayerPlan&) { return std::make_unique<Softmax>(); }

}  // namespace lockstep
