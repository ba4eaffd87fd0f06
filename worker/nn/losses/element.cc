// SPDX-License-Identifier: Apache-2.0
// Losses that look at one output at a time.
#include "worker/nn/loss.h"

namespace lockstep {

namespace {

class Element final : public Loss {
 public:
  explicit Element(const ElementLossArgs& args) : args_(args) {}
  bool classification() const override { return false; }
  void Compute(Device& device, Tensor output, Tensor targets, double scale, Tensor doutput, Tensor sum) override {
    device.ElementLoss(args_, output, targets, scale, doutput, sum);
  }

 private:
  ElementLossArgs args_;
};

}  // namespace

std::unique_ptr<Loss> MakeBinaryCrossentropy(const v1::LossSpec& spec) {
  const v1::BinaryCrossentropyLoss& loss = spec.binary_crossentropy();
  return std::make_unique<Element>(ElementLossArgs{
      .kind = loss.from_logits() ? ElementLossKind::kBinaryCrossentropyOnLogits : ElementLossKind::kBinaryCrossentropy,
      .parameter = loss.label_smoothing()});
}
std::unique_ptr<Loss> MakeMeanSquaredError(const v1::LossSpec&) {
  return std::make_unique<Element>(ElementLossArgs{.kind = ElementLossKind::kSquaredError});
}
std::unique_ptr<Loss> MakeMeanAbsoluteError(const v1::LossSpec&) {
  return std::make_unique<Element>(ElementLossArgs{.kind = ElementLossKind::kAbsoluteError});
}
std::unique_ptr<Loss> MakeHuber(const v1::LossSpec& spec) {
  const double delta = spec.huber().has_delta() ? spec.huber().delta() : 1.0;
  return std::make_unique<Element>(ElementLossArgs{.kind = ElementLossKind::kHuber, .parameter = delta});
}
std::unique_ptr<Loss> MakeHinge(const v1::LossSpec&) {
  return std::make_unique<Element>(ElementLossArgs{.kind = ElementLossKind::kHinge});
}
std::unique_ptr<Loss> MakeKlDivergence(const v1::LossSpec&) {
  return std::make_unique<Element>(ElementLossArgs{.kind = ElementLossKind::kKlDivergence, .mean = false});
}

}  // namespace lockstep
