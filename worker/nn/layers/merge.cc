// SPDX-License-Identifier: Apache-2.0
// Layers with several inputs.
#include "worker/nn/layer.h"

namespace lockstep {

namespace {

class AddLayers final : public Layer {
 public:
  bool passes_gradient() const override { return true; }
  Layout PickLayout(const Device&, const LayoutChoice& choice) const override { return choice.source; }
  void Forward(const LayerContext& context, std::span<const Tensor>, std::span<const Tensor> x, Tensor y) override {
    context.device->Add(x[0], x[1], y);
    for (size_t i = 2; i < x.size(); ++i) context.device->Add(y, x[i], y);
  }
  void Backward(const LayerContext& context, std::span<const Tensor>, std::span<const Tensor>, Tensor, Tensor dy,
                std::span<const Tensor>, std::span<const Tensor> dx) override {
    for (const Tensor& d : dx) {
      if (d.data != nullptr && d.data != dy.data) context.device->ActivationForward({}, dy, d);
    }
  }
};

class Concatenate final : public Layer {
 public:
  explicit Concatenate(int axis) : axis_(axis) {}

  void Forward(const LayerContext& context, std::span<const Tensor>, std::span<const Tensor> x, Tensor y) override {
    int64_t offset = 0;
    for (const Tensor& part : x) {
      const int64_t width = Width(part), whole = Width(y);
      context.device->CopyBlocks(part, {0, width}, y, {offset, whole}, y.elements() / whole, width, false);
      offset += width;
    }
  }
  void Backward(const LayerContext& context, std::span<const Tensor>, std::span<const Tensor> x, Tensor, Tensor dy,
                std::span<const Tensor>, std::span<const Tensor> dx) override {
    int64_t offset = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const int64_t width = Width(x[i]), whole = Width(dy);
      if (dx[i].data != nullptr) {
        context.device->CopyBlocks(dy, {offset, whole}, dx[i], {0, width}, dy.elements() / whole, width, false);
      }
      offset += width;
    }
  }

 private:
  // Elements of everything from the axis on.
  int64_t Width(const Tensor& t) const {
    int64_t width = 1;
    for (int i = axis_ + 1; i < t.shape.rank(); ++i) width *= t.shape[i];
    return width;
  }
  int axis_;
};

}  // namespace

std::unique_ptr<Layer> MakeAdd(const LayerPlan&) { return std::make_unique<AddLayers>(); }

std::unique_ptr<Layer> MakeConcatenate(const LayerPlan& plan) {
  const int64_t axis = plan.spec.concatenate().axis();
  return std::make_unique<Concatenate>(static_cast<int>(axis < 0 ? axis + plan.input.rank() : axis));
}

}  // namespace lockstep
