// SPDX-License-Identifier: Apache-2.0
#include "worker/nn/model.h"

#include <array>
#include <chrono>
#include <cmath>

#include "common/status_macros.h"
#include "worker/nn/initialize.h"

namespace lockstep {

namespace {

constexpr int64_t kLine = 16;

int64_t RoundUp(int64_t n) { return (n + kLine - 1) / kLine * kLine; }

// One layer with its place in memory.
struct Node {
  std::unique_ptr<Layer> layer;
  int index = 0;
  // Of one sample.
  Shape output;
  // Range in ModelImpl::parameter_tensors_.
  size_t first_parameter = 0;
  size_t parameter_count = 0;
  // Activations [max_rows, output...] and their gradients. A view or a fused layer shares those of the
  // layer before it.
  Tensor y;
  Tensor dy;
  // This layer's function is applied by the layer before it.
  bool fused_into_previous = false;
  Activation fused_activation = Activation::kLinear;
};

Tensor Rows(Tensor t, int64_t rows) {
  std::array<int64_t, Shape::kMaxRank> dims{};
  for (int i = 0; i < t.shape.rank(); ++i) dims[i] = t.shape[i];
  dims[0] = rows;
  return t.Reshaped(Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(t.shape.rank()))));
}

class ModelImpl final : public Model {
 public:
  ModelImpl(Device* device, DType type, int64_t max_rows) : device_(device), type_(type), max_rows_(max_rows) {}

  absl::Status Build(const ModelPlan& plan, const v1::LossSpec& loss, const MetricsPlan& metrics) {
    plan_ = plan;
    objective_ = std::make_unique<Objective>(plan, loss, metrics);
    const size_t count = plan.layers.size() - (objective_->fuses_last_layer() ? 1 : 0);
    PlanParameters();
    LOCKSTEP_RETURN_IF_ERROR(Take(parameter_elements_, parameters_));
    for (const ParameterView& view : views_) parameter_tensors_.push_back(ViewInto(parameters_, view));
    gradient_tensors_.resize(views_.size());
    for (size_t i = 0; i < count; ++i) LOCKSTEP_RETURN_IF_ERROR(AddNode(plan.layers[i], static_cast<int>(i)));
    return absl::OkStatus();
  }

  const std::vector<ParameterView>& parameter_views() const override { return views_; }
  Tensor parameters() override { return parameters_; }
  const Objective& objective() const override { return *objective_; }

  void Initialize(uint64_t seed) override {
    uint64_t index = 0;
    for (const LayerPlan& layer : plan_.layers) {
      for (const ParameterPlan& p : layer.parameters) {
        const RngStream stream{seed, RngPurpose::kInit, index};
        const Tensor t = parameter_tensors_[index++];
        InitializeTensor(*device_, t, p, stream);
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
    StepContext own = context;
    own.device = device_;
    const Tensor output = Forward(own, batch);
    const Tensor doutput = nodes_.empty() ? Tensor{} : Rows(nodes_.back().dy, batch.rows);
    objective_->Compute(*device_, output, batch.targets, scale, doutput, stats);
    if (forward_seconds != nullptr) {
      device_->Synchronize();
      *forward_seconds += std::chrono::duration<double>(Clock::now() - began).count();
    }
    Backward(own, batch, gradient);
  }

  void Evaluate(const Batch& batch, Tensor stats) override {
    if (batch.rows == 0) return;
    const StepContext context{.device = device_};
    objective_->Compute(*device_, Forward(context, batch), batch.targets, 0.0, {}, stats);
  }

 private:
  void PlanParameters() {
    for (const LayerPlan& layer : plan_.layers) {
      for (const ParameterPlan& p : layer.parameters) {
        views_.push_back({p.name, p.shape, parameter_elements_});
        const int64_t end = parameter_elements_ + p.shape.elements();
        parameter_elements_ = RoundUp(end);
        if (end < parameter_elements_) gaps_.push_back({"", Shape{parameter_elements_ - end}, end});
      }
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

  absl::Status AddNode(const LayerPlan& layer, int index) {
    Node node{.layer = MakeLayer(layer), .index = index, .output = layer.output};
    if (!nodes_.empty()) node.first_parameter = nodes_.back().first_parameter + nodes_.back().parameter_count;
    node.parameter_count = layer.parameters.size();
    std::vector<int64_t> dims{max_rows_};
    dims.insert(dims.end(), layer.output.dims().begin(), layer.output.dims().end());
    const Shape shape(dims);
    const Activation activation = node.layer->fusable_activation();
    if (node.layer->is_view()) {
      // The first layer's input is the batch's own memory, known only in the step.
      if (!nodes_.empty()) {
        node.y = nodes_.back().y.Reshaped(shape);
        node.dy = nodes_.back().dy.Reshaped(shape);
      }
    } else if (activation != Activation::kLinear && !nodes_.empty() && nodes_.back().layer->can_fuse() &&
               nodes_.back().fused_activation == Activation::kLinear) {
      nodes_.back().fused_activation = activation;
      node.fused_into_previous = true;
      node.y = nodes_.back().y;
      node.dy = nodes_.back().dy;
    } else {
      LOCKSTEP_RETURN_IF_ERROR(Take(shape.elements(), node.y));
      LOCKSTEP_RETURN_IF_ERROR(Take(shape.elements(), node.dy));
      node.y = node.y.Reshaped(shape);
      node.dy = node.dy.Reshaped(shape);
    }
    nodes_.push_back(std::move(node));
    return absl::OkStatus();
  }

  std::span<const Tensor> Of(const std::vector<Tensor>& tensors, const Node& node) const {
    return std::span(tensors).subspan(node.first_parameter, node.parameter_count);
  }

  // A leading view (flatten) is the batch under the view's shape.
  Tensor Output(const Node& node, const Batch& batch) const {
    if (node.y.data != nullptr) return Rows(node.y, batch.rows);
    std::array<int64_t, Shape::kMaxRank> dims{batch.rows};
    for (int i = 0; i < node.output.rank(); ++i) dims[i + 1] = node.output[i];
    return batch.inputs.Reshaped(
        Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(node.output.rank()) + 1)));
  }

  Tensor Forward(StepContext context, const Batch& batch) {
    Tensor x = batch.inputs;
    for (const Node& node : nodes_) {
      const Tensor y = Output(node, batch);
      if (!node.fused_into_previous && !node.layer->is_view()) {
        context.layer_index = node.index;
        context.fused_activation = node.fused_activation;
        node.layer->Forward(context, Of(parameter_tensors_, node), x, y);
      }
      x = y;
    }
    return x;
  }

  void Backward(StepContext context, const Batch& batch, Tensor gradient) {
    for (size_t i = 0; i < views_.size(); ++i) gradient_tensors_[i] = ViewInto(gradient, views_[i]);
    for (const ParameterView& gap : gaps_) device_->Fill(ViewInto(gradient, gap), 0);
    for (size_t i = nodes_.size(); i-- > 0;) {
      const Node& node = nodes_[i];
      if (node.layer->is_view()) continue;
      context.layer_index = node.index;
      context.fused_activation = node.fused_activation;
      const Tensor x = i == 0 ? batch.inputs : Output(nodes_[i - 1], batch);
      // Nobody asks for the gradient of the samples.
      const Tensor dx = i == 0 || nodes_[i - 1].dy.data == nullptr ? Tensor{} : Rows(nodes_[i - 1].dy, batch.rows);
      // A fused activation's dx is its own dy, in place: the memory of both is the layer's before it.
      node.layer->Backward(context, Of(parameter_tensors_, node), x, Output(node, batch), Rows(node.dy, batch.rows),
                           Of(gradient_tensors_, node), dx);
    }
  }

  Device* device_;
  DType type_;
  int64_t max_rows_;
  ModelPlan plan_;
  std::unique_ptr<Objective> objective_;
  std::vector<ParameterView> views_;
  // The padding after each tensor: its gradient is zero, so that it stays zero.
  std::vector<ParameterView> gaps_;
  int64_t parameter_elements_ = 0;
  Tensor parameters_;
  std::vector<Tensor> parameter_tensors_;
  std::vector<Tensor> gradient_tensors_;
  std::vector<Node> nodes_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> Model::Create(Device* device, const ModelPlan& plan, const v1::LossSpec& loss,
                                                     DType type, int64_t max_rows, const MetricsPlan& metrics) {
  auto model = std::make_unique<ModelImpl>(device, type, max_rows);
  LOCKSTEP_RETURN_IF_ERROR(model->Build(plan, loss, metrics));
  return model;
}

}  // namespace lockstep
