// SPDX-License-Identifier: Apache-2.0
#include "worker/measure/step_profile.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/model/input_plan.h"
#include "common/model/job_plan.h"
#include "common/status_macros.h"
#include "worker/data/dataset.h"
#include "worker/nn/model.h"
#include "worker/nn/precision.h"
#include "worker/optim/optimizer.h"
#include "worker/train/sampler.h"
#include "worker/train/step_plan.h"

namespace lockstep {

namespace {

using Clock = std::chrono::steady_clock;

double Since(Clock::time_point began) { return std::chrono::duration<double>(Clock::now() - began).count(); }

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

// Seconds of each step by layer and pass: what has passed since the last word goes to the layer that is named.
class LayerClock final : public NodeObserver {
 public:
  LayerClock(Device* device, size_t layers)
      : device_(device), layers_(layers), now_(2 * layers + 1), all_(now_.size()) {}

  void Begin() { last_ = Clock::now(); }
  void Done(Pass pass, int layer) override {
    device_->Synchronize();
    const auto now = Clock::now();
    const size_t i = static_cast<size_t>(layer) + (pass == Pass::kBackward ? layers_ + 1 : 0);
    now_[i] += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }
  void EndStep(bool counts) {
    for (size_t i = 0; i < now_.size(); ++i) {
      if (counts) all_[i].push_back(now_[i]);
      now_[i] = 0;
    }
  }
  double Forward(size_t layer) const { return Median(all_[layer]); }
  double Loss() const { return Median(all_[layers_]); }
  double Backward(size_t layer) const { return Median(all_[layers_ + 1 + layer]); }

 private:
  Device* device_;
  size_t layers_;
  Clock::time_point last_;
  // Forward of each layer, the loss, backward of each layer.
  std::vector<double> now_;
  std::vector<std::vector<double>> all_;
};

// What a layer's arithmetic is, from its plan; `rows`: samples of a step.
void CountWork(const LayerPlan& plan, bool wants_input_gradient, double rows, LayerTime* time) {
  double inputs = 0, weights = 0;
  for (const Shape& input : plan.inputs) inputs += rows * static_cast<double>(input.elements());
  const double outputs = rows * static_cast<double>(plan.output.elements());
  for (const ParameterPlan& p : plan.parameters) {
    weights += static_cast<double>(p.shape.elements());
    if (!absl::EndsWith(p.name, "kernel")) continue;
    // dense: [in, units]; convolutions: [filters, channels, height, width], once for each place.
    const int64_t filters = p.shape.rank() == 2 ? p.shape[1] : p.shape[0];
    const double places = static_cast<double>(plan.output.elements()) / static_cast<double>(filters);
    const double product = 2 * rows * places * static_cast<double>(p.shape.elements());
    time->forward_flops += product;
    time->backward_flops += product * (wants_input_gradient ? 2 : 1);
  }
  // Forward reads x and w and writes y; backward reads x, w and dy and writes dw and dx.
  const double gradients = wants_input_gradient ? inputs : 0;
  time->bytes = sizeof(float) * (2 * inputs + 2 * outputs + gradients + 3 * weights);
}

class Profiler {
 public:
  Profiler(const v1::JobSpec& spec, int threads) : spec_(spec), device_(MakeCpuDevice(threads)) {}

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
    precision_ = ProductPrecisionOf(spec_.training().precision());
    LOCKSTEP_ASSIGN_OR_RETURN(model_, Model::Create(device_.get(), plan_.model, spec_.loss(), DType::kF32,
                                                    steps_->max_shard_rows(), {}, 1, precision_));
    if (model_->needs_whole_batch()) {
      return absl::UnimplementedError("a layer normalises over the whole batch; such steps are not measured by layer");
    }
    model_->Initialize(spec_.seed());
    clock_ = std::make_unique<LayerClock>(device_.get(), plan_.model.layers.size());
    model_->set_observer(clock_.get());
    const int64_t elements = model_->parameters().elements();
    LOCKSTEP_ASSIGN_OR_RETURN(optimizer_, MakeOptimizer(spec_.optimizer(), *device_, elements, DType::kF32));
    optimizer_->Begin(*device_, model_->parameters());
    LOCKSTEP_ASSIGN_OR_RETURN(gradient_buffer_, device_->Allocate(static_cast<size_t>(elements) * sizeof(float)));
    LOCKSTEP_ASSIGN_OR_RETURN(sum_buffer_, device_->Allocate(static_cast<size_t>(elements) * sizeof(float)));
    LOCKSTEP_ASSIGN_OR_RETURN(stats_buffer_,
                              device_->Allocate(static_cast<size_t>(model_->stats_width()) * sizeof(double)));
    const InputPlan input = FitInput(spec_, plan_.dataset, plan_.logical_shards, plan_.logical_shards);
    LOCKSTEP_ASSIGN_OR_RETURN(sampler_, Sampler::Create(device_.get(), dataset_->train(), spec_,
                                                        {.sample = dataset_->sample_shape(),
                                                         .max_rows = steps_->max_shard_rows(),
                                                         .slots = input.train_slots}));
    sampler_->Follow([this](int64_t index) -> std::optional<Piece> {
      return PieceOf(index / plan_.logical_shards, static_cast<int>(index % plan_.logical_shards));
    });
    return absl::OkStatus();
  }

  absl::StatusOr<StepProfile> Run(double seconds) {
    // The first steps meet cold caches and memory that was never touched.
    constexpr int64_t kWarmUp = 3, kMinSteps = 5;
    const auto began = Clock::now();
    int64_t step = 0;
    for (; step < kWarmUp + kMinSteps || Since(began) < seconds; ++step) {
      LOCKSTEP_RETURN_IF_ERROR(Step(step, step >= kWarmUp));
    }
    StepProfile profile{.device = device_->Description(),
                        .steps = step - kWarmUp,
                        .batch = spec_.training().batch_size(),
                        .shards = plan_.logical_shards,
                        .step_seconds = Median(whole_),
                        .data_seconds = Median(data_),
                        .loss_seconds = clock_->Loss(),
                        .update_seconds = Median(update_)};
    AddLayers(&profile);
    const ProductKind kind{"", DType::kF32, precision_};
    // Of several sizes: short ones find a free moment on a machine that others use too.
    for (const int64_t n : {64, 128, 256, 512, 1024}) {
      LOCKSTEP_ASSIGN_OR_RETURN(const OperationTime product, MeasureProduct(*device_, kind, n, seconds / 10));
      profile.peak_gflops = std::max(profile.peak_gflops, product.gflops());
    }
    LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<OperationTime> levels, MeasureBlasLevels(*device_, seconds / 4));
    profile.peak_gbytes = levels.front().gbytes();
    return profile;
  }

 private:
  Piece PieceOf(int64_t step, int shard) const {
    const StepPlace place = steps_->At(step);
    const RowRange rows = steps_->ShardRows(place.rows, shard);
    return {place.epoch, place.first_position + rows.first, rows.size()};
  }

  absl::Status Step(int64_t step, bool counts) {
    const Shape flat = model_->parameters().shape;
    const Tensor gradient{gradient_buffer_->data(), flat, DType::kF32}, sum{sum_buffer_->data(), flat, DType::kF32};
    const Tensor stats{stats_buffer_->data(), Shape{model_->stats_width()}, DType::kF64};
    const StepPlace place = steps_->At(step);
    const auto began = Clock::now();
    double data = 0;
    for (int shard = 0; shard < plan_.logical_shards; ++shard) {
      const auto loading = Clock::now();
      const Piece piece = PieceOf(step, shard);
      LOCKSTEP_ASSIGN_OR_RETURN(const Batch batch, sampler_->Take(piece));
      device_->Synchronize();
      data += Since(loading);
      const StepContext context{.device = device_.get(),
                                .training = true,
                                .seed = spec_.seed(),
                                .step = step,
                                .first_row = piece.first - place.first_position,
                                .batch_rows = place.rows};
      clock_->Begin();
      const Tensor to = shard == 0 ? sum : gradient;
      model_->ForwardBackward(context, batch, 1.0 / static_cast<double>(place.rows), to, stats, nullptr);
      if (shard > 0) device_->Add(sum, gradient, sum);
    }
    const auto updating = Clock::now();
    optimizer_->Step(*device_, model_->parameters(), sum, optimizer_->base_learning_rate(), step);
    device_->Synchronize();
    clock_->EndStep(counts);
    if (!counts) return absl::OkStatus();
    data_.push_back(data);
    update_.push_back(Since(updating));
    whole_.push_back(Since(began));
    return absl::OkStatus();
  }

  void AddLayers(StepProfile* profile) const {
    const std::vector<LayerPlan>& layers = plan_.model.layers;
    bool any_parameters = false;
    for (size_t i = 0; i < layers.size(); ++i) {
      LayerTime time{
          .name = layers[i].name, .forward_seconds = clock_->Forward(i), .backward_seconds = clock_->Backward(i)};
      // Nobody before the first layer with weights wants a gradient.
      CountWork(layers[i], any_parameters, static_cast<double>(profile->batch), &time);
      any_parameters = any_parameters || !layers[i].parameters.empty();
      // A view does nothing, and what was fused into the layer before it is measured there.
      if (time.seconds() > 0) {
        profile->layers.push_back(std::move(time));
      } else if (layers[i].kind != "flatten" && layers[i].kind != "reshape" && !profile->layers.empty()) {
        absl::StrAppend(&profile->layers.back().name, "+", layers[i].kind);
      }
    }
  }

  const v1::JobSpec& spec_;
  std::unique_ptr<Device> device_;
  JobPlan plan_;
  ProductPrecision precision_ = ProductPrecision::kFloat;
  std::unique_ptr<Dataset> dataset_;
  std::unique_ptr<StepPlan> steps_;
  std::unique_ptr<LayerClock> clock_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Sampler> sampler_;
  std::unique_ptr<Buffer> gradient_buffer_, sum_buffer_, stats_buffer_;
  std::vector<double> data_, update_, whole_;
};

}  // namespace

absl::StatusOr<StepProfile> ProfileStep(const v1::JobSpec& spec, const std::vector<std::string>& data_roots,
                                        int threads, double seconds) {
  Profiler profiler(spec, std::max(1, threads > 0 ? threads : spec.resources().threads_per_worker()));
  LOCKSTEP_RETURN_IF_ERROR(profiler.Build(data_roots));
  return profiler.Run(seconds);
}

}  // namespace lockstep
