// SPDX-License-Identifier: Apache-2.0
// Normalisation of each channel over the samples. Ioffe and Szegedy, 2015.
#include "worker/nn/layer.h"

namespace lockstep {

namespace {

// Scratch: the sums of x and x^2, the sums of the gradient (see Device::ChannelNormSums), each [2, channels],
// then {mean, 1 / deviation, variance}.
class BatchNormalization final : public Layer {
 public:
  explicit BatchNormalization(const LayerPlan& plan)
      : channels_(plan.input[0]),
        places_(plan.input.elements() / plan.input[0]),
        frozen_(plan.spec.has_trainable() && !plan.spec.trainable()) {
    const v1::BatchNormalizationLayer& spec = plan.spec.batch_normalization();
    if (spec.has_epsilon()) epsilon_ = spec.epsilon();
    scale_ = !spec.has_scale() || spec.scale();
    center_ = !spec.has_center() || spec.center();
    synchronized_ = spec.synchronized() && !frozen_;
  }

  bool can_fuse() const override { return true; }
  Layout PickLayout(const Device&, const LayoutChoice& choice) const override { return choice.source; }
  int64_t scratch_size(int64_t) const override { return 7 * channels_; }
  int64_t batch_sums_width() const override { return synchronized_ ? 2 * channels_ : 0; }
  void Sums(const LayerContext& context, Tensor x, Tensor sums) override {
    context.device->Fill(sums, 0);
    context.device->ChannelSums(x, sums);
  }
  void GradientSums(const LayerContext& context, Tensor x, Tensor dy, Tensor sums) override {
    context.device->Fill(sums, 0);
    context.device->ChannelNormSums(x, Statistics(context), dy, sums);
  }

  void Forward(const LayerContext& context, std::span<const Tensor> parameters, std::span<const Tensor> x,
               Tensor y) override {
    Device& device = *context.device;
    if (OfBatch(context)) {
      const Tensor sums = Rows(context, 0, 2);
      if (!synchronized_) Sums(context, x[0], sums);
      device.ChannelStatistics(sums, Count(context, x[0]), epsilon_, Statistics(context));
    } else {
      const Tensor* moving = parameters.data() + Trainable();
      device.MovingStatistics(moving[0], moving[1], epsilon_, Statistics(context));
    }
    device.ChannelNormForward(x[0], Statistics(context), Gamma(parameters), Beta(parameters), context.fused_activation,
                              y);
  }

  void Backward(const LayerContext& context, std::span<const Tensor> parameters, std::span<const Tensor> x, Tensor,
                Tensor dy, std::span<const Tensor> gradients, std::span<const Tensor> dx) override {
    Device& device = *context.device;
    const bool batch = OfBatch(context), whole = batch && synchronized_;
    const Tensor sums = Rows(context, 2, 2);
    if (!whole) GradientSums(context, x[0], dy, sums);
    const double share = Share(context, x[0]);
    // Sums over the whole batch are on every shard: each gives its share.
    if (scale_) device.Convert(Rows(context, 3, 1), whole ? share : 1.0, Gamma(gradients));
    if (center_) device.Convert(Rows(context, 2, 1), whole ? share : 1.0, Beta(gradients));
    device.Convert(Rows(context, 4, 1), batch ? share : 0.0, gradients[Trainable()]);
    device.Convert(Rows(context, 6, 1), batch ? share : 0.0, gradients[Trainable() + 1]);
    if (dx[0].data == nullptr) return;
    device.ChannelNormBackward(x[0], Statistics(context), Gamma(parameters), sums, batch ? Count(context, x[0]) : 0.0,
                               dy, dx[0]);
  }

 private:
  bool OfBatch(const LayerContext& context) const { return context.training && !frozen_; }
  // Of the shard's samples among those of the batch.
  static double Share(const LayerContext& context, const Tensor& x) {
    const double rows = static_cast<double>(x.shape[0]);
    return context.batch_rows > 0 ? rows / static_cast<double>(context.batch_rows) : 1.0;
  }
  // Numbers behind one channel's statistics.
  double Count(const LayerContext& context, const Tensor& x) const {
    const int64_t rows = synchronized_ && context.batch_rows > 0 ? context.batch_rows : x.shape[0];
    return static_cast<double>(rows * places_);
  }
  // Rows [first, first + count) of the scratch seen as [7, channels].
  Tensor Rows(const LayerContext& context, int64_t first, int64_t count) const {
    return {context.scratch.as<double>() + first * channels_, Shape{count, channels_}, DType::kF64};
  }
  Tensor Statistics(const LayerContext& context) const { return Rows(context, 4, 3); }
  size_t Trainable() const { return (scale_ ? 1U : 0U) + (center_ ? 1U : 0U); }
  Tensor Gamma(std::span<const Tensor> tensors) const { return scale_ ? tensors[0] : Tensor{}; }
  Tensor Beta(std::span<const Tensor> tensors) const { return center_ ? tensors[scale_ ? 1 : 0] : Tensor{}; }

  int64_t channels_;
  int64_t places_;
  bool frozen_;
  double epsilon_ = 1e-3;
  bool scale_ = true;
  bool center_ = true;
  bool synchronized_ = false;
};

}  // namespace

std::unique_ptr<Layer> MakeBatchNormalization(const LayerPlan& plan) {
  return std::make_unique<BatchNormalization>(plan);
}

}  // namespace lockstep
