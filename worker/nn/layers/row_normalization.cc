// SPDX-License-Identifier: Apache-2.0
// Normalisation within each sample: layer (Ba et al., 2016) and group (Wu and He, 2018).
#include "worker/nn/layer.h"

namespace lockstep {

namespace {

class RowNormalization final : public Layer {
 public:
  // Each sample is `repeats` rows of the device's.
  template <typename Spec>
  RowNormalization(const Spec& spec, int64_t groups, int64_t spatial, int64_t repeats)
      : args_{.groups = groups, .spatial = spatial}, repeats_(repeats) {
    if (spec.has_epsilon()) args_.epsilon = spec.epsilon();
    scale_ = !spec.has_scale() || spec.scale();
    center_ = !spec.has_center() || spec.center();
  }

  int64_t scratch_size(int64_t rows) const override { return rows * repeats_ * args_.groups * 2; }

  void Forward(const LayerContext& context, std::span<const Tensor> parameters, std::span<const Tensor> x,
               Tensor y) override {
    context.device->RowNormForward(args_, AsRows(x[0]), Gamma(parameters), Beta(parameters), context.scratch,
                                   AsRows(y));
  }
  void Backward(const LayerContext& context, std::span<const Tensor> parameters, std::span<const Tensor> x, Tensor,
                Tensor dy, std::span<const Tensor> gradients, std::span<const Tensor> dx) override {
    context.device->RowNormBackward(args_, AsRows(x[0]), Gamma(parameters), context.scratch, AsRows(dy),
                                    dx[0].data == nullptr ? Tensor{} : AsRows(dx[0]), Gamma(gradients),
                                    Beta(gradients));
  }

 private:
  Tensor AsRows(Tensor t) const {
    const int64_t rows = t.shape[0] * repeats_;
    return t.Reshaped(Shape{rows, t.elements() / rows});
  }
  Tensor Gamma(std::span<const Tensor> tensors) const { return scale_ ? tensors[0] : Tensor{}; }
  Tensor Beta(std::span<const Tensor> tensors) const { return center_ ? tensors[scale_ ? 1 : 0] : Tensor{}; }

  RowNormArgs args_;
  int64_t repeats_;
  bool scale_;
  bool center_;
};

}  // namespace

std::unique_ptr<Layer> MakeLayerNormalization(const LayerPlan& plan) {
  const v1::LayerNormalizationLayer& spec = plan.spec.layer_normalization();
  const int64_t given = spec.has_axis() ? spec.axis() : -1, axis = given < 0 ? given + plan.input.rank() : given;
  int64_t repeats = 1;
  for (int i = 0; i < axis; ++i) repeats *= plan.input[i];
  return std::make_unique<RowNormalization>(spec, 1, 1, repeats);
}

std::unique_ptr<Layer> MakeGroupNormalization(const LayerPlan& plan) {
  const v1::GroupNormalizationLayer& spec = plan.spec.group_normalization();
  const int64_t groups = spec.has_groups() ? spec.groups() : 32;
  return std::make_unique<RowNormalization>(spec, groups, plan.input.elements() / plan.input[0], 1);
}

}  // namespace lockstep
