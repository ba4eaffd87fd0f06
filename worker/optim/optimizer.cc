// SPDX-License-Identifier: Apache-2.0
#include "worker/optim/optimizer.h"

#include <algorithm>

#include "common/status_macros.h"
#include "worker/optim/formula.h"
#include "worker/optim/slices.h"

namespace lockstep {

namespace {

constexpr double kEmaMomentum = 0.99;

std::unique_ptr<UpdateFormula> MakeFormula(const v1::OptimizerSpec& spec) {
  switch (spec.kind_case()) {
#define LOCKSTEP_OPTIMIZER(kind, Name) \
  case v1::OptimizerSpec::k##Name:     \
    return Make##Name(spec.kind());
#include "worker/optim/registry.def"
#undef LOCKSTEP_OPTIMIZER
    case v1::OptimizerSpec::KIND_NOT_SET:
      break;
  }
  return nullptr;
}

// Every pass of its update takes each weight by itself.
bool IsElementwise(const v1::OptimizerSpec& spec, UpdateFormula& formula) {
  const auto passes = formula.Prepare(0, 1);
  // The average is exchanged with the weights as a whole.
  return !spec.has_clip_norm() && !spec.has_global_clip_norm() && !spec.use_ema() &&
         std::ranges::none_of(passes, &UpdatePass::norms);
}

// What of the slice is inside of the part.
Slice Common(Slice slice, const FlatPart& part) {
  const int64_t first = std::max(slice.offset, part.first);
  const int64_t end = std::min(slice.offset + slice.elements, part.first + part.count);
  slice.offset = first;
  slice.elements = std::max<int64_t>(0, end - first);
  return slice;
}

Tensor Part(Tensor flat, const Slice& slice) {
  return {flat.as<std::byte>() + static_cast<size_t>(slice.offset) * SizeOf(flat.type), Shape{slice.elements},
          flat.type};
}

class FlatOptimizer final : public Optimizer {
 public:
  FlatOptimizer(const v1::OptimizerSpec& spec, std::unique_ptr<UpdateFormula> formula)
      : spec_(spec),
        formula_(std::move(formula)),
        accumulated_steps_(std::max<int64_t>(1, spec.gradient_accumulation_steps())),
        elementwise_(IsElementwise(spec, *formula_)),
        plain_(elementwise_ && accumulated_steps_ == 1 && !spec.has_clip_value() &&
               formula_->Prepare(0, 1).front().rule == UpdateRule::kSgd) {}

  absl::Status Build(Device& device, int64_t elements, DType type, const std::vector<OptimizedTensor>& tensors,
                     bool keeps_best, SharedState shared) {
    for (const UpdatePass& pass : formula_->Prepare(0, 1)) layerwise_ |= pass.norms;
    slices_ = MakeSlices(tensors, spec_, formula_->default_weight_decay(), layerwise_ || spec_.has_clip_norm());
    for (const StateName& state : formula_->state()) {
      LOCKSTEP_ASSIGN_OR_RETURN(const Tensor t, TakeShared(device, elements, type, shared, state.name));
      if (state.start != 0 && shared.keeps) device.Fill(t, state.start);
      state_.push_back(t);
    }
    if (accumulated_steps_ > 1) {
      LOCKSTEP_ASSIGN_OR_RETURN(accumulated_, TakeShared(device, elements, type, shared, "accumulated_gradient"));
    }
    if (spec_.use_ema()) {
      LOCKSTEP_ASSIGN_OR_RETURN(average_, Take(device, elements, type));
      named_state_.push_back({"average", average_});
    }
    if (keeps_best) {
      LOCKSTEP_ASSIGN_OR_RETURN(best_, Take(device, elements, type));
      named_state_.push_back({kBestWeights, best_});
    }
    // The gradient's squares for a clip, and two for each slice.
    LOCKSTEP_ASSIGN_OR_RETURN(squares_, Take(device, 1 + 2 * static_cast<int64_t>(slices_.size()), DType::kF64));
    return absl::OkStatus();
  }

  void Begin(Device& device, Tensor parameters) override {
    if (has_average()) Average(device, parameters, 0);
  }

  void StepPart(Device& device, Tensor parameters, Tensor gradient, double learning_rate, int64_t step,
                FlatPart part) override {
    if (accumulated_steps_ > 1) {
      const Slice all{.offset = part.first, .elements = part.count};
      const Tensor g = Part(gradient, all), sum = Part(accumulated_, all);
      if (!changes_parameters(step)) {
        device.Add(sum, g, sum);
        return;
      }
      TakeMean(device, g, sum);
    }
    const int64_t t = step / accumulated_steps_ + 1;
    Penalise(device, parameters, gradient, part);
    Clip(device, parameters, gradient, part);
    Update(device, parameters, gradient, learning_rate, t, part);
    // The first update's weights are the average so far.
    if (has_average()) {
      Average(device, parameters, t == 1 ? 0 : spec_.has_ema_momentum() ? spec_.ema_momentum() : kEmaMomentum);
    }
  }

  void SkipPart(Device& device, Tensor parameters, Tensor gradient, double learning_rate, int64_t step,
                FlatPart part) override {
    if (accumulated_steps_ == 1) return;
    device.Fill(Part(gradient, {.offset = part.first, .elements = part.count}), 0);
    StepPart(device, parameters, gradient, learning_rate, step, part);
  }

  bool changes_parameters(int64_t step) const override { return (step + 1) % accumulated_steps_ == 0; }
  bool elementwise() const override { return elementwise_; }
  bool IsPlain(FlatPart part) const override {
    if (!plain_) return false;
    return std::ranges::any_of(slices_, [&](const Slice& slice) {
      return slice.weight_decay == 0 && slice.l1 == 0 && slice.l2 == 0 && Common(slice, part).elements == part.count;
    });
  }

  std::vector<std::pair<std::string, Tensor>> State() override { return named_state_; }
  double base_learning_rate() const override { return formula_->learning_rate(); }
  bool has_average() const override { return spec_.use_ema(); }

  void SwapAverage(Device& device, Tensor parameters) override {
    if (!has_average()) return;
    for (const Slice& slice : slices_) {
      device.ApplyUpdate(UpdateRule::kSwap, {}, Part(average_, slice), Part(parameters, slice), {});
    }
  }

  void KeepBest(Device& device, Tensor parameters) override {
    SwapAverage(device, parameters);
    device.Copy(parameters, best_);
    SwapAverage(device, parameters);
  }
  void SwapBest(Device& device, Tensor parameters) override {
    device.ApplyUpdate(UpdateRule::kSwap, {}, best_, parameters, {});
  }

 private:
  absl::StatusOr<Tensor> Take(Device& device, int64_t elements, DType type) {
    LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer,
                              device.Allocate(static_cast<size_t>(elements) * SizeOf(type)));
    buffers_.push_back(std::move(buffer));
    return Tensor{buffers_.back()->data(), Shape{elements}, type};
  }

  // State that ranks may share: the next of the shared memory, where there is some.
  absl::StatusOr<Tensor> TakeShared(Device& device, int64_t elements, DType type, SharedState& shared,
                                    const char* name) {
    Tensor t{shared.memory.data(), Shape{elements}, type};
    if (shared.memory.empty()) {
      LOCKSTEP_ASSIGN_OR_RETURN(t, Take(device, elements, type));
    } else {
      shared.memory = shared.memory.subspan(SharedArrayBytes(elements, type));
    }
    named_state_.push_back({name, t});
    if (!shared.keeps) named_state_.back().second.data = nullptr;
    return t;
  }

  // Squares `index` and on, `count` of them.
  Tensor Squares(int64_t index, int64_t count) const {
    return {squares_.as<double>() + index, Shape{count}, DType::kF64};
  }

  // The mean over the accumulated steps, this one's included, takes the gradient's place.
  void TakeMean(Device& device, Tensor gradient, Tensor accumulated) {
    const double share = 1.0 / static_cast<double>(accumulated_steps_);
    const UpdateArgs args{.beta_1 = share, .beta_2 = share};
    device.ApplyUpdate(UpdateRule::kAverage, args, gradient, accumulated, {});
    device.Fill(accumulated, 0);
  }

  void Penalise(Device& device, Tensor parameters, Tensor gradient, const FlatPart& part) {
    for (const Slice& whole : slices_) {
      const Slice slice = Common(whole, part);
      if (slice.elements == 0 || (slice.l1 == 0 && slice.l2 == 0)) continue;
      const UpdateArgs args{.l1 = slice.l1, .l2 = slice.l2};
      device.ApplyUpdate(UpdateRule::kPenalty, args, Part(parameters, slice), Part(gradient, slice), {});
    }
  }

  void Clip(Device& device, Tensor parameters, Tensor gradient, const FlatPart& part) {
    if (!spec_.has_clip_value() && !spec_.has_clip_norm() && !spec_.has_global_clip_norm()) return;
    UpdateArgs args{.norms = Squares(0, 1)};
    if (spec_.has_global_clip_norm()) {
      args.limit = spec_.global_clip_norm();
      device.Fill(args.norms, 0);
      for (const Slice& slice : slices_) device.SumSquares(Part(gradient, slice), args.norms);
    }
    for (const Slice& whole : slices_) {
      const Slice slice = Common(whole, part);
      if (slice.elements == 0) continue;
      const Tensor w = Part(parameters, slice), g = Part(gradient, slice);
      if (spec_.has_clip_value()) {
        args.limit = spec_.clip_value();
        device.ApplyUpdate(UpdateRule::kClipValue, args, w, g, {});
      } else if (spec_.has_clip_norm()) {
        args.limit = spec_.clip_norm();
        device.Fill(args.norms, 0);
        device.SumSquares(g, args.norms);
        device.ApplyUpdate(UpdateRule::kClipNorm, args, w, g, {});
      } else if (spec_.has_global_clip_norm()) {
        device.ApplyUpdate(UpdateRule::kClipNorm, args, w, g, {});
      }
    }
  }

  void Update(Device& device, Tensor parameters, Tensor gradient, double learning_rate, int64_t t,
              const FlatPart& part) {
    const std::span<const UpdatePass> passes = formula_->Prepare(learning_rate, t);
    if (layerwise_) device.Fill(squares_, 0);
    Tensor state[kMaxUpdateStates];
    for (size_t i = 0; i < slices_.size(); ++i) {
      const Slice slice = Common(slices_[i], part);
      if (slice.elements == 0) continue;
      const Tensor w = Part(parameters, slice), g = Part(gradient, slice);
      for (size_t s = 0; s < state_.size(); ++s) state[s] = Part(state_[s], slice);
      for (const UpdatePass& pass : passes) {
        UpdateArgs args = pass.args;
        args.weight_decay = slice.weight_decay;
        if (!formula_->decays_inside()) args.decay = learning_rate * slice.weight_decay;
        if (pass.norms) {
          const auto at = static_cast<int64_t>(1 + 2 * i);
          args.norms = Squares(at, 2);
          device.SumSquares(w, Squares(at, 1));
          device.SumSquares(g, Squares(at + 1, 1));
        }
        device.ApplyUpdate(pass.rule, args, w, g, {state, state_.size()});
      }
    }
  }

  void Average(Device& device, Tensor parameters, double momentum) {
    const UpdateArgs args{.beta_1 = momentum, .beta_2 = 1.0 - momentum};
    for (const Slice& slice : slices_) {
      device.ApplyUpdate(UpdateRule::kAverage, args, Part(average_, slice), Part(parameters, slice), {});
    }
  }

  const v1::OptimizerSpec spec_;
  const std::unique_ptr<UpdateFormula> formula_;
  const int64_t accumulated_steps_;
  const bool elementwise_;
  // Each weight's update is that of plain SGD, but for what the slices say.
  const bool plain_;
  // A pass wants each tensor's norms.
  bool layerwise_ = false;
  std::vector<Slice> slices_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  // The formula's, in its order.
  std::vector<Tensor> state_;
  std::vector<std::pair<std::string, Tensor>> named_state_;
  Tensor accumulated_;
  Tensor average_;
  Tensor best_;
  Tensor squares_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Optimizer>> MakeOptimizer(const v1::OptimizerSpec& spec, Device& device,
                                                         int64_t elements, DType type,
                                                         std::vector<OptimizedTensor> tensors, bool keeps_best,
                                                         const SharedState& shared) {
  std::unique_ptr<UpdateFormula> formula = MakeFormula(spec);
  if (formula == nullptr) return absl::InvalidArgumentError("optimizer: is missing");
  if (tensors.empty()) tensors.push_back({.elements = elements});
  auto optimizer = std::make_unique<FlatOptimizer>(spec, std::move(formula));
  LOCKSTEP_RETURN_IF_ERROR(optimizer->Build(device, elements, type, tensors, keeps_best, shared));
  return optimizer;
}

// Each array begins on a cache line.
size_t SharedArrayBytes(int64_t elements, DType type) {
  return (static_cast<size_t>(elements) * SizeOf(type) + 63) / 64 * 64;
}

size_t SharedStateBytes(const v1::OptimizerSpec& spec, int64_t elements, DType type) {
  const std::unique_ptr<UpdateFormula> formula = MakeFormula(spec);
  if (formula == nullptr || !IsElementwise(spec, *formula)) return 0;
  const size_t arrays = formula->state().size() + (spec.gradient_accumulation_steps() > 1 ? 1 : 0);
  return arrays * SharedArrayBytes(elements, type);
}

bool IsElementwise(const v1::OptimizerSpec& spec) {
  const std::unique_ptr<UpdateFormula> formula = MakeFormula(spec);
  return formula != nullptr && IsElementwise(spec, *formula);
}

}  // namespace lockstep
