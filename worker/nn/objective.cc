// SPDX-License-Identifier: Apache-2.0
#include "worker/nn/objective.h"

#include <algorithm>

namespace lockstep {

namespace {

Tensor Part(Tensor sums, int first, int width) { return {sums.as<double>() + first, Shape{width}, DType::kF64}; }

// The loss as it is computed: on what the last layer would have been given, where both can be one.
bool FuseLastLayer(const ModelPlan& model, v1::LossSpec& loss) {
  const std::string_view last = model.layers.empty() ? std::string_view() : model.layers.back().kind;
  const auto fuse = [&](auto* spec, std::string_view layer) {
    if (spec->from_logits() || last != layer) return false;
    spec->set_from_logits(true);
    return true;
  };
  switch (loss.kind_case()) {
    case v1::LossSpec::kSparseCategoricalCrossentropy:
      return fuse(loss.mutable_sparse_categorical_crossentropy(), "softmax");
    case v1::LossSpec::kCategoricalCrossentropy:
      return fuse(loss.mutable_categorical_crossentropy(), "softmax");
    case v1::LossSpec::kBinaryCrossentropy:
      return fuse(loss.mutable_binary_crossentropy(), "sigmoid");
    default:
      return false;
  }
}

// `loss` as it is computed.
MetricContext ContextOf(const v1::LossSpec& loss, const MetricsPlan& metrics) {
  MetricContext context{.task = metrics.task, .outputs = metrics.outputs};
  if (loss.sparse_categorical_crossentropy().from_logits() || loss.categorical_crossentropy().from_logits()) {
    context.kind = OutputKind::kSoftmax;
  }
  if (loss.binary_crossentropy().from_logits()) context.kind = OutputKind::kSigmoid;
  // Probability 1/2, and the side of a hinge.
  if (context.kind == OutputKind::kSigmoid || loss.has_hinge()) context.threshold = 0;
  return context;
}

}  // namespace

std::optional<double> Scores::Find(std::string_view metric) const {
  const auto found = std::ranges::find(metrics, metric, &MetricResult::name);
  return found == metrics.end() ? std::nullopt : std::optional(found->value);
}

Objective::Objective(const ModelPlan& model, const v1::LossSpec& loss_spec, const MetricsPlan& metrics) {
  v1::LossSpec loss = loss_spec;
  fuses_last_layer_ = FuseLastLayer(model, loss);
  loss_ = MakeLoss(loss);
  const MetricContext context = ContextOf(loss, metrics);
  for (size_t i = 0; i < metrics.metrics.size(); ++i) {
    Entry& entry = entries_.emplace_back();
    entry.metric = MakeMetric(metrics.metrics[i], context);
    entry.result.name = MetricName(metrics.metrics[i]);
    entry.result.reported = i < metrics.reported;
  }
  for (const bool counts : {false, true}) {
    for (Entry& entry : entries_) {
      if (entry.metric->counts() != counts) continue;
      entry.slot = width_;
      width_ += entry.metric->width();
      if (entry.metric->of_gradient()) gradient_slot_ = entry.slot;
      if (entry.metric->top_k() == 1 && hits_slot_ < 0) hits_slot_ = entry.slot;
    }
    if (!counts) ordered_width_ = width_;
  }
}

void Objective::Compute(Device& device, Tensor output, Tensor targets, double scale, Tensor doutput, Tensor sums) {
  loss_->Compute(device, output, targets, scale, doutput, Part(sums, 0, 1));
  Count(device, output, targets, sums, kNoSlot);
}

void Objective::Count(Device& device, Tensor output, Tensor targets, Tensor sums, int but) {
  for (const Entry& entry : entries_) {
    if (entry.slot == but) continue;
    entry.metric->Count(device, output, targets, Part(sums, entry.slot, entry.metric->width()));
  }
}

void Objective::AddGradientNorm(double norm, std::span<double> sums) const {
  sums[gradient_slot_] += norm;
  sums[gradient_slot_ + 1] += 1;
}

Scores Objective::Score(std::span<const double> sums, int64_t rows, bool training) const {
  Scores scores{.loss = sums[0] / static_cast<double>(rows), .metrics = {}};
  for (const Entry& entry : entries_) {
    if (entry.metric->of_gradient() && !training) continue;
    entry.metric->Evaluate(&sums[entry.slot], rows, scores.metrics.emplace_back(entry.result));
  }
  return scores;
}

std::optional<double> Objective::Value(std::string_view metric, std::span<const double> sums, int64_t rows) const {
  for (const Entry& entry : entries_) {
    if (entry.result.name != metric) continue;
    MetricResult result;
    entry.metric->Evaluate(&sums[entry.slot], rows, result);
    return result.value;
  }
  return std::nullopt;
}

}  // namespace lockstep
