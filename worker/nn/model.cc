// SPDX-License-Identifier: Apache-2.0
#include "worker/nn/model.h"

#include <array>
#include <chrono>
#include <climits>
#include <utility>

#include "common/status_macros.h"
#include "worker/nn/graph.h"
#include "worker/nn/initialize.h"
#include "worker/nn/model_chain.h"

namespace lockstep {

namespace {

constexpr int64_t kLine = 16;
// Behind every layer.
constexpr int kNoLayer = INT_MAX;

// Places of Model::FirstNonFinite; behind the layers come the loss and the gradients.
constexpr int64_t kSamplesPlace = 0;
constexpr int64_t kTargetsPlace = 1;
constexpr int64_t kFirstLayerPlace = 2;

int64_t RoundUp(int64_t n) { return (n + kLine - 1) / kLine * kLine; }

// [rows, sample...] on the same memory.
Tensor Rows(Tensor t, int64_t rows, const Shape& sample) {
  std::array<int64_t, Shape::kMaxRank> dims{rows};
  for (int i = 0; i < sample.rank(); ++i) dims[static_cast<size_t>(i) + 1] = sample[i];
  return t.Reshaped(Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(sample.rank()) + 1)));
}

class ModelImpl final : public Model {
 public:
  ModelImpl(Device* device, DType type, ProductPrecision precision)
      : device_(device), type_(type), precision_(precision) {}

  absl::Status Build(const ModelPlan& plan, const v1::LossSpec& loss, const MetricsPlan& metrics, int64_t max_rows,
                     int shards) {
    plan_ = plan;
    objective_ = std::make_unique<Objective>(plan, loss, metrics);
    LOCKSTEP_RETURN_IF_ERROR(objective_->Prepare(*device_));
    const bool fused = objective_->fuses_last_layer();
    PlanParameters();
    LOCKSTEP_RETURN_IF_ERROR(Take(parameter_elements_, parameters_));
    for (const size_t i : place_) parameter_tensors_.push_back(ViewInto(parameters_, views_[i]));
    gradient_tensors_.resize(views_.size());
    const size_t count = plan.layers.size() - (fused ? 1 : 0);
    for (size_t i = 0; i < count; ++i) {
      whole_batch_width_ = std::max(whole_batch_width_, MakeLayer(plan.layers[i])->batch_sums_width());
    }
    lanes_ = needs_whole_batch() ? std::max(1, shards) : 1;
    LOCKSTEP_RETURN_IF_ERROR(graph_.Build(*device_, plan, count, type_, precision_, max_rows, lanes_));
    LOCKSTEP_RETURN_IF_ERROR(PlanFactors());
    if (!needs_whole_batch()) chain_ = ModelChain::Find(plan_, graph_, *objective_, type_, precision_);
    if (fused) last_layer_ = MakeLayer(plan.layers.back());
    if (fused) LOCKSTEP_RETURN_IF_ERROR(Take(max_rows * plan.output.elements(), prediction_));
    shard_sums_.resize(static_cast<size_t>(lanes_ * whole_batch_width_));
    PlanCompletion();
    return absl::OkStatus();
  }

  const std::vector<ParameterView>& parameter_views() const override { return views_; }
  Tensor parameters() override { return parameters_; }
  const Objective& objective() const override { return *objective_; }
  bool needs_whole_batch() const override { return whole_batch_width_ > 0; }

  SampleForm FormOfSamples(int64_t rows) const override {
    const int64_t n = needs_whole_batch() || type_ != DType::kF32 ? 0 : graph_.ColumnsOfSamples(plan_);
    if (n == 0) return SampleForm::kAll;
    const auto form = [&](ProductPrecision precision) {
      return device_->FormOfSamples(rows, plan_.input.elements(), n, precision);
    };
    // Evaluation is in float.
    return form(precision_) == form(ProductPrecision::kFloat) ? form(precision_) : SampleForm::kAll;
  }

  void Initialize(uint64_t seed) override {
    uint64_t index = 0;
    for (const LayerPlan& layer : plan_.layers) {
      for (const ParameterPlan& p : layer.parameters) {
        const RngStream stream{seed, RngPurpose::kInit, index};
        InitializeTensor(*device_, parameter_tensors_[index++], p, stream);
      }
    }
  }

  void ForwardBackward(const StepContext& context, const Batch& batch, double scale, Tensor gradient, Tensor stats,
                       double* forward_seconds) override {
    if (batch.rows == 0) {
      device_->Fill(gradient, 0);
      return;
    }
    using Clock = std::chrono::steady_clock;
    const Clock::time_point began = forward_seconds == nullptr ? Clock::time_point{} : Clock::now();
    const StepContext own = Own(context, context.first_row);
    RoundFactors();
    graph_.Bind(0, batch.inputs, true);
    PointGradients(gradient);
    if (RunChain(batch, scale, gradient, stats)) {
      if (context.watcher != nullptr) context.watcher->LayersDone(0);
      return;
    }
    for (Node& node : graph_.nodes) Forward(node, 0, own);
    ComputeLoss(0, batch, scale, stats);
    if (forward_seconds != nullptr) {
      device_->Synchronize();
      *forward_seconds += std::chrono::duration<double>(Clock::now() - began).count();
    }
    int done = kNoLayer;
    for (size_t i = graph_.nodes.size(); i-- > 0;) {
      Backward(graph_.nodes[i], 0, own);
      if (context.watcher == nullptr || complete_after_[i] == done) continue;
      ZeroUntrained(gradient, complete_after_[i], std::exchange(done, complete_after_[i]));
      context.watcher->LayersDone(done);
    }
    ZeroUntrained(gradient, 0, done);
  }

  absl::Status ForwardBackwardTogether(const StepContext& context, std::span<const ShardTask> shards, double scale,
                                       ShardSum& sum) override {
    RoundFactors();
    for (size_t lane = 0; lane < shards.size(); ++lane) graph_.Bind(lane, shards[lane].batch.inputs, true);
    for (Node& node : graph_.nodes) {
      LOCKSTEP_RETURN_IF_ERROR(SumOverBatch(node, false, context, shards, sum));
      for (size_t lane = 0; lane < shards.size(); ++lane) {
        if (shards[lane].batch.rows == 0) continue;
        Forward(node, lane, Own(context, shards[lane].first_row));
      }
    }
    for (size_t lane = 0; lane < shards.size(); ++lane) {
      const ShardTask& shard = shards[lane];
      device_->Fill(shard.gradient, 0);
      if (shard.batch.rows > 0) ComputeLoss(lane, shard.batch, scale, shard.stats);
    }
    for (size_t i = graph_.nodes.size(); i-- > 0;) {
      Node& node = graph_.nodes[i];
      LOCKSTEP_RETURN_IF_ERROR(SumOverBatch(node, true, context, shards, sum));
      for (size_t lane = 0; lane < shards.size(); ++lane) {
        if (shards[lane].batch.rows == 0) continue;
        PointGradients(shards[lane].gradient);
        Backward(node, lane, Own(context, shards[lane].first_row));
      }
    }
    for (const ShardTask& shard : shards) ZeroUntrained(shard.gradient, 0, kNoLayer);
    return absl::OkStatus();
  }

  void UpdateMovingIn(Tensor gradient, int64_t first, int64_t count) override {
    for (const ParameterView& view : views_) {
      if (!view.moving_momentum.has_value()) continue;
      const int64_t from = std::max(first, view.offset);
      const int64_t to = std::min(first + count, view.offset + view.shape.elements());
      if (from >= to) continue;
      const auto part = [&](Tensor flat) {
        return Tensor{flat.as<std::byte>() + static_cast<size_t>(from) * SizeOf(flat.type), Shape{to - from},
                      flat.type};
      };
      device_->Blend(*view.moving_momentum, part(gradient), part(parameters_));
      device_->Fill(part(gradient), 0);
    }
  }

  int64_t FirstNonFinite(size_t lane, const Batch& batch, bool loss_is_finite, Tensor gradient, Tensor flag) override {
    if (batch.rows > 0) {
      // What is made of bytes is finite.
      const bool of_bytes = batch.inputs.columns != nullptr || batch.inputs.byte_rows != nullptr;
      if (!of_bytes && !IsFinite(batch.inputs, flag)) return kSamplesPlace;
      if (batch.targets.type != DType::kI32 && !IsFinite(batch.targets, flag)) return kTargetsPlace;
      for (const Node& node : graph_.nodes) {
        if (!IsFinite(node.calls[lane].y, flag)) return kFirstLayerPlace + node.index;
      }
    }
    return loss_is_finite ? FirstNonFiniteGradient(gradient, flag) : LossPlace();
  }

  int64_t FirstNonFiniteGradient(Tensor gradient, Tensor flag) override {
    for (size_t i = place_.size(); i-- > 0;) {
      if (!IsFinite(ViewInto(gradient, views_[place_[i]]), flag)) {
        return LossPlace() + static_cast<int64_t>(place_.size() - i);
      }
    }
    return -1;
  }

  std::string PlaceName(int64_t place) const override {
    if (place == kSamplesPlace) return "the samples";
    if (place == kTargetsPlace) return "the targets";
    if (place == LossPlace()) return "the loss";
    if (place >= kFirstLayerPlace && place < LossPlace()) {
      return "the output of " + plan_.layers[static_cast<size_t>(place - kFirstLayerPlace)].name;
    }
    const int64_t from_end = place - LossPlace();
    if (from_end < 1 || from_end > static_cast<int64_t>(place_.size())) return "nothing";
    return "the gradient of " + views_[place_[place_.size() - static_cast<size_t>(from_end)]].name;
  }

  void Evaluate(const Batch& batch, Tensor stats) override {
    if (batch.rows == 0) return;
    const StepContext context{.device = device_};
    graph_.Bind(0, batch.inputs, false);
    for (Node& node : graph_.nodes) Forward(node, 0, context);
    objective_->Compute(*device_, Last(0), batch.targets, 0.0, {}, stats);
  }

  Tensor Predict(const Batch& batch) override {
    const StepContext context{.device = device_};
    graph_.Bind(0, batch.inputs, false);
    for (Node& node : graph_.nodes) Forward(node, 0, context);
    if (last_layer_ == nullptr) return Last(0);
    const Tensor x = Last(0), y = Rows(prediction_, batch.rows, plan_.output);
    last_layer_->Forward(LayerContext{context}, {}, std::span(&x, 1), y);
    return y;
  }

  void set_observer(NodeObserver* observer) override { observer_ = observer; }

 private:
  // Moving statistics are placed behind all others: the optimizer's pass is over one stretch.
  void PlanParameters() {
    size_t count = 0;
    for (const LayerPlan& layer : plan_.layers) count += layer.parameters.size();
    place_.resize(count);
    for (const bool moving : {false, true}) {
      size_t index = 0;
      int layer_index = -1;
      for (const LayerPlan& layer : plan_.layers) {
        ++layer_index;
        for (const ParameterPlan& p : layer.parameters) {
          const size_t own = index++;
          if (p.moving_momentum.has_value() != moving) continue;
          place_[own] = views_.size();
          views_.push_back(
              {p.name, p.shape, parameter_elements_, p.trainable, p.moving_momentum, p.l1, p.l2, layer_index});
          const int64_t end = parameter_elements_ + p.shape.elements();
          parameter_elements_ = RoundUp(end);
          if (end < parameter_elements_) {
            untrained_.push_back({.shape = Shape{parameter_elements_ - end}, .offset = end, .layer = layer_index});
          }
          if (!p.trainable && !moving) untrained_.push_back(views_.back());
        }
      }
    }
  }

  // Kernels that products of 16 bits read lie rounded beside the parameters, all in one stretch.
  absl::Status PlanFactors() {
    training_tensors_ = parameter_tensors_;
    const DType factor = type_ == DType::kF32 ? device_->FactorType(precision_) : DType::kF32;
    if (factor == DType::kF32) return absl::OkStatus();
    std::vector<size_t> kernels;
    int64_t first = parameter_elements_, end = 0;
    for (const Node& node : graph_.nodes) {
      if (!node.layer->only_multiplies()) continue;
      kernels.push_back(node.first_parameter);
      const ParameterView& view = views_[place_[node.first_parameter]];
      first = std::min(first, view.offset);
      end = std::max(end, view.offset + view.shape.elements());
    }
    if (kernels.empty()) return absl::OkStatus();
    const auto count = static_cast<size_t>(end - first);
    LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, device_->Allocate(count * SizeOf(factor)));
    rounded_ = {buffer->data(), Shape{end - first}, factor};
    rounded_from_ = {parameters_.as<float>() + first, rounded_.shape, type_};
    buffers_.push_back(std::move(buffer));
    for (const size_t kernel : kernels) {
      const ParameterView& view = views_[place_[kernel]];
      training_tensors_[kernel] = {rounded_.as<uint16_t>() + (view.offset - first), view.shape, factor};
    }
    return absl::OkStatus();
  }

  // As the parameters are now.
  void RoundFactors() {
    if (rounded_.data != nullptr) device_->Round(rounded_from_, rounded_);
  }

  // Once backward is through with node i, no earlier node is of a layer from here on.
  void PlanCompletion() {
    int complete = 0;
    for (const Node& node : graph_.nodes) {
      complete_after_.push_back(complete);
      complete = std::max(complete, node.index + 1);
    }
  }

  Tensor ViewInto(Tensor flat, const ParameterView& view) const {
    return {flat.as<std::byte>() + static_cast<size_t>(view.offset) * SizeOf(type_), view.shape, type_};
  }

  absl::Status Take(int64_t elements, Tensor& out) {
    LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer,
                              device_->Allocate(static_cast<size_t>(elements) * SizeOf(type_)));
    out = {buffer->data(), Shape{elements}, type_};
    buffers_.push_back(std::move(buffer));
    return absl::OkStatus();
  }

  int64_t LossPlace() const { return kFirstLayerPlace + static_cast<int64_t>(plan_.layers.size()); }

  bool IsFinite(Tensor x, Tensor flag) {
    double found = 0;
    device_->CheckFinite(x, flag);
    device_->CopyToHost(&found, flag.data, sizeof(found));
    return found == 0;
  }

  StepContext Own(const StepContext& context, int64_t first_row) const {
    StepContext own = context;
    own.device = device_;
    own.first_row = first_row;
    own.precision = precision_;
    return own;
  }

  std::span<const Tensor> Of(const std::vector<Tensor>& tensors, const Node& node) const {
    return std::span(tensors).subspan(node.first_parameter, node.parameter_count);
  }

  const Tensor& Last(size_t lane) const { return graph_.Output(static_cast<int>(graph_.nodes.size()) - 1, lane); }

  // The node's own context, brought up to the step's.
  static const LayerContext& For(Node& node, size_t lane, const StepContext& step) {
    LayerContext& own = node.calls[lane].context;
    static_cast<StepContext&>(own) = step;
    return own;
  }

  void Forward(Node& node, size_t lane, const StepContext& context) {
    if (node.fused_into_source || node.layer->is_view()) return;
    const NodeCall& call = node.calls[lane];
    if (observer_ != nullptr) observer_->Begin(Pass::kForward, node.index);
    const std::vector<Tensor>& parameters = context.training ? training_tensors_ : parameter_tensors_;
    node.layer->Forward(For(node, lane, context), Of(parameters, node), call.x, call.y);
    if (observer_ != nullptr) observer_->Done(Pass::kForward, node.index);
  }

  void ComputeLoss(size_t lane, const Batch& batch, double scale, Tensor stats) {
    const Tensor doutput = graph_.nodes.empty() ? Tensor{} : graph_.nodes.back().calls[lane].dy;
    if (observer_ != nullptr) observer_->Begin(Pass::kLoss, static_cast<int>(plan_.layers.size()));
    objective_->Compute(*device_, Last(lane), batch.targets, scale, doutput, stats);
    if (observer_ != nullptr) observer_->Done(Pass::kLoss, static_cast<int>(plan_.layers.size()));
  }

  // False: it is to be computed layer by layer.
  bool RunChain(const Batch& batch, double scale, Tensor gradient, Tensor stats) {
    if (chain_ == nullptr || (observer_ != nullptr && observer_->wants_each_layer())) return false;
    return chain_->Run(*device_, {parameter_tensors_, gradient_tensors_}, batch, scale, gradient, stats);
  }

  void PointGradients(const Tensor& gradient) {
    if (pointed_at_ == gradient.data) return;
    pointed_at_ = gradient.data;
    for (size_t i = 0; i < place_.size(); ++i) gradient_tensors_[i] = ViewInto(gradient, views_[place_[i]]);
  }

  void Backward(Node& node, size_t lane, const StepContext& context) {
    if (!node.wants_gradient || node.gradient_is_fused || (node.layer->is_view() && node.shares_dy)) return;
    const NodeCall& call = node.calls[lane];
    if (observer_ != nullptr) observer_->Begin(Pass::kBackward, node.index);
    // A fused activation's dx is its own dy, in place.
    node.layer->Backward(For(node, lane, context), Of(training_tensors_, node), call.x, call.y, call.dy,
                         Of(gradient_tensors_, node), call.dx);
    for (size_t k = 0; k < node.sources.size(); ++k) {
      if (node.flows[k] != GradientFlow::kAdd) continue;
      const Tensor& sum = graph_.nodes[static_cast<size_t>(node.sources[k])].calls[lane].dy;
      device_->Add(sum, call.dx[k], sum);
    }
    if (observer_ != nullptr) observer_->Done(Pass::kBackward, node.index);
  }

  // Of the layers [first, end).
  void ZeroUntrained(Tensor gradient, int first, int end) {
    for (const ParameterView& view : untrained_) {
      if (view.layer >= first && view.layer < end) device_->Fill(ViewInto(gradient, view), 0);
    }
  }

  // The layer's sums over the whole batch into each shard's scratch; see Layer::batch_sums_width.
  absl::Status SumOverBatch(Node& node, bool backward, const StepContext& context, std::span<const ShardTask> shards,
                            ShardSum& sum) {
    const int64_t width = node.layer->batch_sums_width();
    if (width == 0) return absl::OkStatus();
    const auto place = [&](size_t lane) -> Tensor {
      return {node.memory[lane].scratch.as<double>() + (backward ? width : 0), Shape{2, width / 2}, DType::kF64};
    };
    const std::span<double> all(shard_sums_.data(), shards.size() * static_cast<size_t>(width));
    for (size_t lane = 0; lane < shards.size(); ++lane) {
      const Batch& batch = shards[lane].batch;
      const LayerContext& own = For(node, lane, Own(context, shards[lane].first_row));
      if (batch.rows == 0) {
        device_->Fill(place(lane), 0);
      } else if (backward) {
        node.layer->GradientSums(own, node.calls[lane].x[0], node.calls[lane].dy, place(lane));
      } else {
        node.layer->Sums(own, node.calls[lane].x[0], place(lane));
      }
      device_->CopyToHost(all.data() + lane * static_cast<size_t>(width), place(lane).data, place(lane).bytes());
    }
    std::vector<double>& total = total_;
    total.resize(static_cast<size_t>(width));
    LOCKSTEP_RETURN_IF_ERROR(sum.Sum(all, total));
    for (size_t lane = 0; lane < shards.size(); ++lane) {
      device_->CopyFromHost(place(lane).data, total.data(), place(lane).bytes());
    }
    return absl::OkStatus();
  }

  Device* device_;
  DType type_;
  ProductPrecision precision_;
  ModelPlan plan_;
  std::unique_ptr<Objective> objective_;
  Graph graph_;
  // Null: the model is none.
  std::unique_ptr<ModelChain> chain_;
  int lanes_ = 1;
  int64_t whole_batch_width_ = 0;
  std::vector<double> shard_sums_;
  std::vector<double> total_;
  // A last layer that is one step with the loss, for Predict alone.
  std::unique_ptr<Layer> last_layer_;
  Tensor prediction_;
  // In the order of the flat array.
  std::vector<ParameterView> views_;
  // The view of each parameter, in the plan's order, as all of the tensors below.
  std::vector<size_t> place_;
  // The padding after each tensor, whose gradient is zero so that it stays zero, and what no layer writes or no
  // optimizer may use.
  std::vector<ParameterView> untrained_;
  // For each node: all layers from this one on are done when backward is through with the node.
  std::vector<int> complete_after_;
  int64_t parameter_elements_ = 0;
  Tensor parameters_;
  std::vector<Tensor> parameter_tensors_;
  // The same as training reads them, kernels as factors where that is another type.
  std::vector<Tensor> training_tensors_;
  std::vector<Tensor> gradient_tensors_;
  // Those factors, and what they are rounded from; null data: there are none.
  Tensor rounded_, rounded_from_;
  // The flat array that they are views of.
  const void* pointed_at_ = nullptr;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  NodeObserver* observer_ = nullptr;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> Model::Create(Device* device, const ModelPlan& plan, const v1::LossSpec& loss,
                                                     DType type, int64_t max_rows, const MetricsPlan& metrics,
                                                     int shards, ProductPrecision precision) {
  auto model = std::make_unique<ModelImpl>(device, type, precision);
  LOCKSTEP_RETURN_IF_ERROR(model->Build(plan, loss, metrics, max_rows, shards));
  return model;
}

}  // namespace lockstep
