// SPDX-License-Identifier: Apache-2.0
// How the trainer sums gradients, and what it does with the sum.
#include <cmath>
#include <memory>
#include <utility>

#include "common/status_macros.h"
#include "worker/comm/fastest_reduce.h"
#include "worker/comm/tree_reduce.h"
#include "worker/train/gradient_ops.h"
#include "worker/train/trainer.h"

namespace lockstep {

namespace {

Tensor PartOf(Tensor flat, const FlatPart& part) {
  return {flat.as<float>() + part.first, Shape{part.count}, DType::kF32};
}

}  // namespace

absl::Status Trainer::MakeReducer(int64_t elements, int scalars) {
  const int shards = config_.plan.logical_shards;
  if (config_.device_reducer && communicator_->size() > 1) {
    ReducerNeeds needs{.shards = shards, .elements = elements, .scalars = scalars, .fastest = fastest_};
    for (const ParameterView& view : model_->parameter_views()) {
      needs.spans.push_back({view.offset, view.shape.elements(), view.layer});
    }
    LOCKSTEP_ASSIGN_OR_RETURN(auto on_device, config_.device_reducer(needs));
    gradients_ = GradientSum::Overlapped(std::move(on_device));
    return absl::OkStatus();
  }
  const int64_t reduced = GradientSum::StaysOnDevice(*device_, *communicator_) ? 0 : elements;
  std::unique_ptr<Reducer> reducer;
  if (fastest_) {
    reducer = std::make_unique<FastestReducer>(communicator_, shards, reduced, scalars);
  } else {
    LOCKSTEP_ASSIGN_OR_RETURN(auto tree, TreeReducer::Create(communicator_, shards, reduced, scalars));
    if (sliced_update_) sliced_update_->Use(device_, model_.get(), optimizer_.get(), tree.get());
    reducer = std::move(tree);
  }
  LOCKSTEP_ASSIGN_OR_RETURN(gradients_,
                            GradientSum::Create(device_, communicator_, std::move(reducer), shards, elements, scalars));
  return absl::OkStatus();
}

absl::Status Trainer::Apply(int64_t step, const StepPlace& place, bool finite) {
  const Tensor gradient = gradients_->sum();
  const double rate = Rate(step);
  if (!finite) MakeDeferred();
  // A loss that is not finite is so at any scale.
  const bool too_large = loss_scale_ && std::isfinite(step_sums_[0]) && LossScale::CanShrink(loss_scale_state());
  if (!finite && !too_large) LOCKSTEP_RETURN_IF_ERROR(OnNonFinite(step, place, gradient));
  if (loss_scale_ && finite) Unscale(*device_, *model_, CurrentLossScale(), gradient, flag_);
  if (loss_scale_ && (finite || too_large)) loss_scale_->Observe(finite, loss_scale_state());
  if (sliced_update_) return sliced_update_->Step(finite, rate, step);
  if (finite) {
    AddGradientNorm(gradient);
    model_->UpdateMoving(gradient);
    if (deferred_.x.data == nullptr) {
      optimizer_->Step(*device_, model_->parameters(), gradient, rate, step);
    } else {
      StepDeferred(gradient, rate, step);
    }
  } else {
    optimizer_->Skip(*device_, model_->parameters(), gradient, rate, step);
  }
  return absl::OkStatus();
}

// Before the optimizer clips it; the same on every rank.
void Trainer::AddGradientNorm(Tensor gradient) {
  if (!model_->objective().wants_gradient_norm()) return;
  double squares = 0;
  SumSquaresOf(*device_, *model_, gradient, flag_);
  device_->CopyToHost(&squares, flag_.data, sizeof(squares));
  model_->objective().AddGradientNorm(std::sqrt(squares), step_sums_);
}

// Where something was added, whoever added it has looked.
bool Trainer::GradientIsFinite() {
  if (const std::optional<bool> finite = gradients_->finite(); finite.has_value()) return *finite;
  const Tensor gradient = gradients_->sum();
  if (deferred_.x.data != nullptr && !MayStayDeferred(gradient)) MakeDeferred();
  if (deferred_.x.data == nullptr) return IsFinite(gradient);
  return std::ranges::all_of(BesidesDeferred(gradient),
                             [&](const FlatPart& part) { return IsFinite(PartOf(gradient, part)); });
}

bool Trainer::IsFinite(Tensor part) {
  double found = 0;
  device_->CheckFinite(part, flag_);
  device_->CopyToHost(&found, flag_.data, sizeof(found));
  return found == 0;
}

bool Trainer::DefersProduct() const {
  return communicator_->size() == 1 && config_.plan.logical_shards == 1 && !loss_scale_ && whole_batch_ == nullptr &&
         !model_->objective().wants_gradient_norm() &&
         std::ranges::any_of(model_->parameter_views(), [&](const ParameterView& view) {
           return optimizer_->IsPlain({view.offset, view.shape.elements()});
         });
}

bool Trainer::MayStayDeferred(Tensor gradient) const {
  const FlatPart part{BesidesDeferred(gradient)[0].count, deferred_.gradient.elements()};
  return optimizer_->IsPlain(part) && device_->ProductIsFinite(deferred_.x, deferred_.dy);
}

std::array<FlatPart, 2> Trainer::BesidesDeferred(Tensor gradient) const {
  const int64_t first = deferred_.gradient.as<float>() - gradient.as<float>();
  const int64_t end = first + deferred_.gradient.elements();
  return {FlatPart{0, first}, FlatPart{end, gradient.elements() - end}};
}

void Trainer::MakeDeferred() {
  if (deferred_.x.data == nullptr) return;
  device_->Gemm({.transpose_a = true}, deferred_.x, deferred_.dy, {}, deferred_.gradient);
  deferred_ = {};
}

void Trainer::StepDeferred(Tensor gradient, double rate, int64_t step) {
  const Tensor w = model_->parameters();
  const std::array<FlatPart, 2> others = BesidesDeferred(gradient);
  for (const FlatPart& part : others) optimizer_->StepPart(*device_, w, gradient, rate, step, part);
  const Tensor kernel{w.as<float>() + others[0].count, deferred_.gradient.shape, DType::kF32};
  device_->StepColumns(rate, deferred_.x, deferred_.dy, kernel);
}

}  // namespace lockstep
