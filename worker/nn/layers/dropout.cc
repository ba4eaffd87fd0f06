// SPDX-License-Identifier: Apache-2.0
// The mask is drawn again in backward: it is a function of (seed, step, layer, place in the batch).
#include "worker/nn/layer.h"

namespace lockstep {

namespace {

class Dropout final : public Layer {
 public:
  explicit Dropout(double rate) : rate_(rate) {}

  void Forward(const LayerContext& context, std::span<const Tensor>, std::span<const Tensor> x, Tensor y) override {
    if (context.training) {
      context.device->Dropout(x[0], rate_, Stream(context), context.first_row, y);
    } else {
      context.device->ActivationForward({}, x[0], y);
    }
  }
  void Backward(const LayerContext& context, std::span<const Tensor>, std::span<const Tensor>, Tensor, Tensor dy,
                std::span<const Tensor>, std::span<const Tensor> dx) override {
    if (dx[0].data != nullptr) context.device->Dropout(dy, rate_, Stream(context), context.first_row, dx[0]);
  }

 private:
  // The limit of 10,000 layers leaves the layer's index its 16 bits.
  static RngStream Stream(const LayerContext& context) {
    return {context.seed, RngPurpose::kDropout,
            static_cast<uint64_t>(context.step) << kStepShift | static_cast<uint64_t>(context.layer_index)};
  }
  double rate_;
};

}  // namespace

std::unique_ptr<Layer> MakeDropout(const LayerPlan& plan) {
  return std::make_unique<Dropout>(plan.spec.dropout().rate());
}

}  // namespace lockstep
