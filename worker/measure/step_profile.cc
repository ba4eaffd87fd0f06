// SPDX-License-Identifier: Apache-2.0
#include "worker/measure/step_profile.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/model/input_plan.h"
#include "common/model/job_plan.h"
#include "common/status_macros.h"
#include "worker/comm/communicator.h"
#include "worker/comm/tree_reduce.h"
#include "worker/data/dataset.h"
#include "worker/measure/products.h"
#include "worker/nn/model.h"
#include "worker/nn/precision.h"
#include "worker/nn/range_observer.h"
#include "worker/optim/optimizer.h"
#include "worker/train/gradient_sum.h"
#include "worker/train/sampler.h"
#include "worker/train/step_plan.h"

namespace lockstep {

namespace {

using Clock = std::chrono::steady_clock;

// The first steps meet cold caches and memory that was never touched.
constexpr int64_t kWarmUp = 3;
constexpr int64_t kMinSteps = 5;
// Steps are enqueued without a wait, so that a GPU is not idle between them; so many marks at most, and so many steps.
constexpr int kMarks = 4096;
constexpr int kStepsAtOnce = 16;

double Since(Clock::time_point began) { return std::chrono::duration<double>(Clock::now() - began).count(); }

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

// Seconds of each step by part and layer.
class PartSeconds {
 public:
  void Add(const StepTimes& step) {
    std::map<Key, double> sums;
    for (const PartTime& part : step.parts) sums[{part.part, part.layer}] += part.seconds();
    for (const auto& [key, seconds] : sums) all_[key].push_back(seconds);
    whole_.push_back(step.seconds());
  }
  int64_t steps() const { return static_cast<int64_t>(whole_.size()); }
  double Whole() const { return Median(whole_); }
  double Of(StepPart part, int layer = -1) const {
    const auto found = all_.find({part, layer});
    return found == all_.end() ? 0 : Median(found->second);
  }
  bool Has(int layer) const {
    return all_.contains({StepPart::kForward, layer}) || all_.contains({StepPart::kBackward, layer});
  }

 private:
  using Key = std::pair<StepPart, int>;
  std::map<Key, std::vector<double>> all_;
  std::vector<double> whole_;
};

class Profiler {
 public:
  Profiler(const v1::JobSpec& spec, const MeasuredDevice& on) : spec_(spec), on_(on), device_(on.device.get()) {}

  absl::Status Build(const std::vector<std::string>& data_roots) {
    Violations violations;
    const DatasetInfo info = ProbeDataset(spec_.dataset(), data_roots, spec_.seed(), violations);
    if (violations.empty()) plan_ = PlanJob(spec_, &info, violations);
    if (!violations.empty()) {
      const Violation& first = violations.list().front();
      return absl::InvalidArgumentError(absl::StrCat(first.field, ": ", first.description));
    }
    const int64_t outputs = plan_.model.output.elements();
    LOCKSTEP_ASSIGN_OR_RETURN(dataset_, OpenDataset(spec_.dataset(), data_roots, spec_.seed(),
                                                    plan_.dataset.classification ? std::max<int64_t>(outputs, 2) : 0));
    steps_ =
        std::make_unique<StepPlan>(plan_.dataset.train_samples, spec_.training().batch_size(), plan_.logical_shards);
    LOCKSTEP_RETURN_IF_ERROR(BuildModel());
    LOCKSTEP_RETURN_IF_ERROR(BuildSum());
    const InputPlan input = FitInput(spec_, plan_.dataset, plan_.logical_shards, plan_.logical_shards);
    LOCKSTEP_ASSIGN_OR_RETURN(sampler_, Sampler::Create(device_, dataset_->train(), spec_,
                                                        {.sample = dataset_->sample_shape(),
                                                         .max_rows = steps_->max_shard_rows(),
                                                         .slots = input.train_slots,
                                                         .form = model_->FormOfSamples(steps_->max_shard_rows())}));
    sampler_->Follow([this](int64_t index) -> std::optional<Piece> {
      return PieceOf(index / plan_.logical_shards, static_cast<int>(index % plan_.logical_shards));
    });
    return absl::OkStatus();
  }

  absl::StatusOr<StepProfile> Run(const ProfileOptions& options) {
    LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceTimer> timer, on_.make_timer(steps_at_once_ * marks_));
    StepTimeline timeline(timer.get());
    std::optional<RangeObserver> ranges;
    NodeObservers observers;
    observers.Add(&timeline);
    if (on_.ranges != nullptr) observers.Add(&ranges.emplace(on_.ranges.get(), plan_.model));
    model_->set_observer(&observers);
    const auto began = Clock::now();
    int64_t step = 0;
    for (; step < kWarmUp; ++step) {
      LOCKSTEP_RETURN_IF_ERROR(Step(step, timeline));
      LOCKSTEP_RETURN_IF_ERROR(timeline.Read().status());
    }
    const auto goes_on = [&] { return step < kWarmUp + kMinSteps || Since(began) < options.seconds; };
    while (goes_on()) {
      for (int i = 0; i < steps_at_once_ && goes_on(); ++i) LOCKSTEP_RETURN_IF_ERROR(Step(step++, timeline));
      LOCKSTEP_ASSIGN_OR_RETURN(std::vector<StepTimes> steps, timeline.Read());
      LOCKSTEP_RETURN_IF_ERROR(device_->status());
      Keep(std::move(steps), static_cast<size_t>(options.traced_steps));
    }
    model_->set_observer(nullptr);
    StepProfile profile = Medians();
    LOCKSTEP_RETURN_IF_ERROR(MeasurePeaks(options.seconds, &profile));
    return profile;
  }

 private:
  absl::Status BuildModel() {
    precision_ = ProductPrecisionOf(spec_.training().precision());
    LOCKSTEP_ASSIGN_OR_RETURN(model_, Model::Create(device_, plan_.model, spec_.loss(), DType::kF32,
                                                    steps_->max_shard_rows(), {}, 1, precision_));
    if (model_->needs_whole_batch()) {
      return absl::UnimplementedError("a layer normalises over the whole batch; such steps are not measured by layer");
    }
    model_->Initialize(spec_.seed());
    LOCKSTEP_ASSIGN_OR_RETURN(optimizer_,
                              MakeOptimizer(spec_.optimizer(), *device_, model_->parameters().elements(), DType::kF32));
    optimizer_->Begin(*device_, model_->parameters());
    const size_t doubles = static_cast<size_t>(model_->stats_width()) + 1;
    LOCKSTEP_ASSIGN_OR_RETURN(stats_buffer_, device_->Allocate(doubles * sizeof(double)));
    stats_ = {stats_buffer_->data(), Shape{model_->stats_width()}, DType::kF64};
    flag_ = {stats_.as<double>() + model_->stats_width(), Shape{1}, DType::kF64};
    marks_ = StepTimeline::MarksOfStep(plan_.model, plan_.logical_shards);
    steps_at_once_ = std::clamp(kMarks / marks_, 1, kStepsAtOnce);
    return absl::OkStatus();
  }

  // As a job's one rank has it.
  absl::Status BuildSum() {
    const int64_t elements = model_->parameters().elements();
    const int64_t reduced = GradientSum::StaysOnDevice(*device_, *alone_) ? 0 : elements;
    LOCKSTEP_ASSIGN_OR_RETURN(auto reducer, TreeReducer::Create(alone_.get(), plan_.logical_shards, reduced, 0));
    LOCKSTEP_ASSIGN_OR_RETURN(
        gradients_, GradientSum::Create(device_, alone_.get(), std::move(reducer), plan_.logical_shards, elements, 0));
    return absl::OkStatus();
  }

  Piece PieceOf(int64_t step, int shard) const {
    const StepPlace place = steps_->At(step);
    const RowRange rows = steps_->ShardRows(place.rows, shard);
    return {place.epoch, place.first_position + rows.first, rows.size()};
  }

  absl::Status Step(int64_t step, StepTimeline& timeline) {
    RangeMarker* const ranges = on_.ranges.get();
    const ScopedRange range(ranges, "step");
    const StepPlace place = steps_->At(step);
    timeline.BeginStep(step, place.rows);
    for (int shard = 0; shard < plan_.logical_shards; ++shard) {
      const Piece piece = PieceOf(step, shard);
      timeline.BeginShard(shard, piece.rows);
      LOCKSTEP_ASSIGN_OR_RETURN(const Batch batch, InRange(ranges, "data", [&] { return sampler_->Take(piece); }));
      timeline.Done(StepPart::kData);
      const StepContext context{.device = device_,
                                .training = true,
                                .seed = spec_.seed(),
                                .step = step,
                                .first_row = piece.first - place.first_position,
                                .batch_rows = place.rows};
      model_->ForwardBackward(context, batch, 1.0 / static_cast<double>(place.rows), gradients_->shard_gradient(),
                              stats_, nullptr);
      const ScopedRange summing(ranges, "gradient sum");
      gradients_->Commit();
      if (shard == plan_.logical_shards - 1) LOCKSTEP_RETURN_IF_ERROR(gradients_->Finish());
      timeline.Done(StepPart::kGradientSum);
    }
    const ScopedRange updating(ranges, "update");
    const Tensor gradient = gradients_->sum();
    // Where something was added, whoever added it has looked.
    if (!gradients_->finite().has_value()) device_->CheckFinite(gradient, flag_);
    model_->UpdateMoving(gradient);
    optimizer_->Step(*device_, model_->parameters(), gradient, optimizer_->base_learning_rate(), step);
    timeline.DoneUpdate();
    return absl::OkStatus();
  }

  void Keep(std::vector<StepTimes> steps, size_t traced) {
    for (StepTimes& step : steps) {
      seconds_.Add(step);
      traced_.push_back(std::move(step));
    }
    if (traced_.size() > traced) traced_.erase(traced_.begin(), traced_.end() - static_cast<std::ptrdiff_t>(traced));
  }

  StepProfile Medians() {
    const double elements = static_cast<double>(model_->parameters().elements());
    // Weights are read and written, the gradient is read, each array of the state is read and written.
    const double update = elements * static_cast<double>(3 + 2 * optimizer_->State().size());
    StepProfile profile{.device = device_->Description(),
                        .steps = seconds_.steps(),
                        .batch = spec_.training().batch_size(),
                        .shards = plan_.logical_shards,
                        .step_seconds = seconds_.Whole(),
                        .data_seconds = seconds_.Of(StepPart::kData),
                        .loss_seconds = seconds_.Of(StepPart::kLoss),
                        .sum_seconds = seconds_.Of(StepPart::kGradientSum),
                        .update_seconds = seconds_.Of(StepPart::kUpdate),
                        .update_bytes = sizeof(float) * update,
                        .sample_bytes = sizeof(float) * static_cast<double>(dataset_->sample_shape().elements())};
    AddLayers(&profile);
    return profile;
  }

  void AddLayers(StepProfile* profile) {
    const std::vector<LayerPlan>& layers = plan_.model.layers;
    std::vector<int> rows_of(layers.size(), -1);
    bool any_parameters = false;
    for (size_t i = 0; i < layers.size(); ++i) {
      const LayerPlan& layer = layers[i];
      // Nobody before the first layer with weights wants a gradient.
      const bool wants_input_gradient = std::exchange(any_parameters, any_parameters || !layer.parameters.empty());
      const int index = static_cast<int>(i);
      // A view does nothing, and what was fused into the layer before it is measured there.
      if (!seconds_.Has(index)) {
        const bool view = layer.kind == "flatten" || layer.kind == "reshape";
        if (!view && !profile->layers.empty()) absl::StrAppend(&profile->layers.back().name, "+", layer.kind);
        continue;
      }
      rows_of[i] = static_cast<int>(profile->layers.size());
      LayerTime time{.name = layer.name,
                     .forward_seconds = seconds_.Of(StepPart::kForward, index),
                     .backward_seconds = seconds_.Of(StepPart::kBackward, index),
                     .plan = layer,
                     .wants_input_gradient = wants_input_gradient};
      for (int shard = 0; shard < plan_.logical_shards; ++shard) {
        time.work += WorkOf(layer, wants_input_gradient, steps_->ShardRows(profile->batch, shard).size());
      }
      profile->layers.push_back(std::move(time));
    }
    profile->traced = std::move(traced_);
    const double origin = profile->traced.empty() ? 0 : profile->traced.front().begin;
    for (StepTimes& step : profile->traced) {
      step.begin -= origin;
      step.end -= origin;
      for (PartTime& part : step.parts) {
        part.begin -= origin;
        part.end -= origin;
        if (part.layer >= 0) part.layer = rows_of[static_cast<size_t>(part.layer)];
      }
    }
  }

  absl::Status MeasurePeaks(double seconds, StepProfile* profile) {
    // What a device has no units for, it computes in float.
    ProductKind kind{"fp32", DType::kF32, precision_};
    const std::vector<ProductKind> kinds = ProductKinds(on_.gpu);
    const auto found = std::ranges::find(kinds, precision_, &ProductKind::precision);
    if (found != kinds.end()) kind = *found;
    profile->precision = kind.name;
    for (const int64_t n : on_.sizes.peak_products) {
      LOCKSTEP_ASSIGN_OR_RETURN(const OperationTime product, MeasureProduct(on_, kind, n, seconds / 10));
      profile->peak_gflops = std::max(profile->peak_gflops, product.gflops());
    }
    LOCKSTEP_ASSIGN_OR_RETURN(const OperationTime moving, MeasureMoving(on_, seconds / 4));
    profile->peak_gbytes = moving.gbytes();
    return absl::OkStatus();
  }

  const v1::JobSpec& spec_;
  const MeasuredDevice& on_;
  Device* const device_;
  const std::unique_ptr<Communicator> alone_ = MakeSingleCommunicator();
  JobPlan plan_;
  ProductPrecision precision_ = ProductPrecision::kFloat;
  // Of a step at most, and steps between two looks at the timer.
  int marks_ = 0;
  int steps_at_once_ = 1;
  std::unique_ptr<Dataset> dataset_;
  std::unique_ptr<StepPlan> steps_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<GradientSum> gradients_;
  std::unique_ptr<Sampler> sampler_;
  std::unique_ptr<Buffer> stats_buffer_;
  // As wide as the objective, and one more for CheckFinite.
  Tensor stats_;
  Tensor flag_;
  PartSeconds seconds_;
  std::vector<StepTimes> traced_;
};

}  // namespace

absl::StatusOr<StepProfile> ProfileStep(const v1::JobSpec& spec, const std::vector<std::string>& data_roots,
                                        const MeasuredDevice& on, const ProfileOptions& options) {
  Profiler profiler(spec, on);
  LOCKSTEP_RETURN_IF_ERROR(profiler.Build(data_roots));
  return profiler.Run(options);
}

}  // namespace lockstep
