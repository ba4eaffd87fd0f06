// SPDX-License-Identifier: Apache-2.0
#include "worker/nn/graph.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "common/status_macros.h"

namespace lockstep {

namespace {

// Where a buffer may begin.
size_t RoundUpToLine(size_t bytes) { return (bytes + 63) / 64 * 64; }

bool IsTrained(const ParameterPlan& p) { return p.trainable || p.moving_momentum.has_value(); }

// [rows, sample...]
Shape Batched(int64_t rows, const Shape& sample) {
  std::array<int64_t, Shape::kMaxRank> dims{rows};
  std::ranges::copy(sample.dims(), dims.begin() + 1);
  return Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(sample.rank()) + 1));
}

// The same numbers in another layout.
class Copy final : public Layer {
 public:
  void Forward(const LayerContext& context, std::span<const Tensor>, std::span<const Tensor> x, Tensor y) override {
    context.device->Relayout(x[0], y);
  }
  void Backward(const LayerContext& context, std::span<const Tensor>, std::span<const Tensor>, Tensor, Tensor dy,
                std::span<const Tensor>, std::span<const Tensor> dx) override {
    if (dx[0].data != nullptr) context.device->Relayout(dy, dx[0]);
  }
};

}  // namespace

absl::Status Graph::Build(Device& device, const ModelPlan& plan, size_t count, DType type, ProductPrecision precision,
                          int64_t max_rows, int lanes) {
  for (size_t i = 0; i < count; ++i) AddLayer(device, plan, i, {.type = type, .precision = precision}, max_rows);
  // The loss takes it row-major.
  if (count > 0)
    InLayout(places_.back(), Layout::kRowMajor, plan.layers[count - 1].output, static_cast<int>(count) - 1);
  for (Node& node : nodes) {
    node.calls.resize(static_cast<size_t>(lanes), {.context = {},
                                                   .x = std::vector<Tensor>(node.sources.size()),
                                                   .y = {},
                                                   .dy = {},
                                                   .dx = std::vector<Tensor>(node.sources.size())});
  }
  bound_.resize(static_cast<size_t>(lanes));
  PlanFusion(plan);
  PlanGradients();
  PlanFusedGradients(CountUses());
  if (type == DType::kF32) factor_type_ = device.FactorType(precision);
  if (factor_type_ != DType::kF32) PlanFactors(CountUses());
  return Allocate(device, type, max_rows, lanes);
}

void Graph::AddLayer(Device& device, const ModelPlan& plan, size_t index, LayoutChoice choice, int64_t max_rows) {
  const LayerPlan& layer = plan.layers[index];
  Node node{.layer = MakeLayer(layer), .index = static_cast<int>(index), .output = layer.output};
  if (index > 0) {
    const LayerPlan& before = plan.layers[index - 1];
    node.first_parameter = nodes[static_cast<size_t>(places_[index - 1])].first_parameter + before.parameters.size();
  }
  node.parameter_count = layer.parameters.size();
  node.wants_gradient = std::ranges::any_of(layer.parameters, IsTrained);
  for (const int source : layer.sources) {
    node.sources.push_back(source == kModelInput ? kModelInput : places_[static_cast<size_t>(source)]);
    if (LayoutOf(node.sources.back()) != Layout::kRowMajor) choice.source = LayoutOf(node.sources.back());
  }
  choice.x = Batched(max_rows, layer.input);
  node.layout = node.layer->PickLayout(device, choice);
  for (size_t k = 0; k < node.sources.size(); ++k) {
    node.sources[k] = InLayout(node.sources[k], node.layout, layer.inputs[k], node.index);
  }
  AddNode(std::move(node));
  places_.push_back(static_cast<int>(nodes.size()) - 1);
}

int Graph::InLayout(int source, Layout layout, const Shape& output, int index) {
  if (LayoutOf(source) == layout) return source;
  for (size_t i = 0; i < nodes.size(); ++i) {
    // Only a copy has another layout than its source, or a view of it.
    if (nodes[i].layout == layout && nodes[i].is_copy && nodes[i].sources[0] == source) return static_cast<int>(i);
  }
  AddNode({.layer = std::make_unique<Copy>(),
           .index = index,
           .sources = {source},
           .is_copy = true,
           .layout = layout,
           .output = output});
  return static_cast<int>(nodes.size()) - 1;
}

void Graph::AddNode(Node node) {
  for (const int source : node.sources) {
    if (source != kModelInput && nodes[static_cast<size_t>(source)].wants_gradient) node.wants_gradient = true;
  }
  nodes.push_back(std::move(node));
}

Layout Graph::LayoutOf(int source) const {
  return source == kModelInput ? Layout::kRowMajor : nodes[static_cast<size_t>(source)].layout;
}

std::vector<int> Graph::CountUses() const {
  std::vector<int> uses(nodes.size(), 0);
  for (const Node& node : nodes) {
    for (const int source : node.sources) {
      if (source != kModelInput) ++uses[static_cast<size_t>(source)];
    }
  }
  return uses;
}

void Graph::Bind(size_t lane, const Tensor& inputs, bool training) {
  const Bound& bound = bound_[lane];
  if (bound.inputs.data == inputs.data && bound.inputs.columns == inputs.columns &&
      bound.inputs.byte_rows == inputs.byte_rows && bound.inputs.shape == inputs.shape && bound.training == training) {
    return;
  }
  bound_[lane] = {inputs, training};
  const auto type_of = [&](const Node& node, DType type) { return training ? TrainingType(node, type) : type; };
  const int64_t rows = inputs.shape[0];
  for (Node& node : nodes) {
    NodeCall& call = node.calls[lane];
    for (size_t k = 0; k < node.sources.size(); ++k) call.x[k] = Output(node.sources[k], lane);
    const NodeMemory& memory = node.memory[lane];
    const Shape shape = Batched(rows, node.output);
    // A view of the samples is the batch under the view's shape.
    call.y = (memory.y.data == nullptr ? inputs : memory.y).Reshaped(shape);
    call.dy = memory.dy.Reshaped(shape);
    call.y.type = type_of(node, call.y.type);
    call.dy.type = type_of(node, call.dy.type);
    size_t added = 0;
    for (size_t k = 0; k < node.sources.size(); ++k) {
      if (node.flows[k] == GradientFlow::kNone) continue;
      const Node& source = nodes[static_cast<size_t>(node.sources[k])];
      const Tensor& to = node.flows[k] == GradientFlow::kAdd ? sums[added++] : source.memory[lane].dy;
      call.dx[k] = to.Reshaped(Batched(rows, source.output));
      call.dx[k].layout = source.layout;
      call.dx[k].type = type_of(source, to.type);
    }
  }
}

int64_t Graph::ColumnsOfSamples(const ModelPlan& plan) const {
  // Nodes that are views of the samples.
  std::vector<bool> samples(nodes.size(), false);
  int64_t columns = 0;
  for (size_t i = 0; i < nodes.size(); ++i) {
    const Node& node = nodes[i];
    const bool reads = std::ranges::any_of(
        node.sources, [&](int source) { return source == kModelInput || samples[static_cast<size_t>(source)]; });
    if (!reads) continue;
    samples[i] = node.layer->is_view();
    if (samples[i]) continue;
    const LayerPlan& layer = plan.layers[static_cast<size_t>(node.index)];
    if (!node.layer->only_multiplies() || node.is_copy || layer.input.rank() != 1) return 0;
    columns = std::max(columns, node.output.elements());
  }
  return nodes.empty() || samples.back() ? 0 : columns;
}

// A layer shares its only source's memory where that one has no other use.
void Graph::PlanFusion(const ModelPlan& plan) {
  const std::vector<int> uses = CountUses();
  for (Node& node : nodes) {
    const int source = node.sources[0];
    const bool from_input = source == kModelInput;
    const bool only_use = !from_input && uses[static_cast<size_t>(source)] == 1;
    if (node.layer->is_view()) {
      node.shares_y = true;
      node.shares_dy = only_use;
      continue;
    }
    if (only_use && node.layer->passes_gradient()) node.shares_dy = nodes[static_cast<size_t>(source)].wants_gradient;
    const ActivationArgs activation = node.layer->fusable_activation();
    if (activation.linear() || !only_use || node.is_copy || plan.layers[static_cast<size_t>(node.index)].merges)
      continue;
    Node& before = nodes[static_cast<size_t>(source)];
    if (!before.layer->can_fuse() || !before.fused_activation.linear()) continue;
    before.fused_activation = activation;
    node.fused_into_source = node.shares_y = node.shares_dy = true;
  }
}

// A fused activation's gradient is applied by its only user, while that writes it.
void Graph::PlanFusedGradients(const std::vector<int>& uses) {
  for (Node& node : nodes) {
    const int source = node.sources[0];
    if (source == kModelInput || !node.layer->can_fuse_source_gradient()) continue;
    Node& before = nodes[static_cast<size_t>(source)];
    if (!before.fused_into_source || uses[static_cast<size_t>(source)] != 1 || !before.wants_gradient) continue;
    node.source_activation = nodes[static_cast<size_t>(before.sources[0])].fused_activation;
    before.gradient_is_fused = true;
  }
}

// Images in the device's layout, and what a layer puts out that only multiplies, with relu or nothing behind it, for
// one that does the same; so a copy of images for such a layer.
void Graph::PlanFactors(const std::vector<int>& uses) {
  for (Node& node : nodes) node.is_factor = node.layout == Layout::kImages;
  for (const Node& node : nodes) {
    const int source = node.sources[0];
    if (source == kModelInput || !node.layer->only_multiplies() || uses[static_cast<size_t>(source)] != 1) continue;
    Node* given = &nodes[static_cast<size_t>(source)];
    std::vector<Node*> same{given};
    for (; given->layer->is_view() && given->shares_dy; same.push_back(given)) {
      given = &nodes[static_cast<size_t>(given->sources[0])];
    }
    if (given->is_copy) {
      for (Node* const each : same) each->is_factor = true;
      continue;
    }
    if (same.size() > 1) continue;
    const bool fused = given->fused_into_source && given->gradient_is_fused;
    Node& maker = fused ? nodes[static_cast<size_t>(given->sources[0])] : *given;
    const Activation kind = maker.fused_activation.kind;
    if (!maker.layer->only_multiplies() || (kind != Activation::kLinear && kind != Activation::kRelu)) continue;
    given->is_factor = maker.is_factor = true;
  }
}

// Backward goes from the last layer to the first: of those that use a layer's output the last is the
// first to give it a gradient.
void Graph::PlanGradients() {
  std::vector<bool> reached(nodes.size(), false);
  for (size_t i = nodes.size(); i-- > 0;) {
    for (const int source : nodes[i].sources) {
      if (source == kModelInput || !nodes[static_cast<size_t>(source)].wants_gradient) {
        nodes[i].flows.push_back(GradientFlow::kNone);
        continue;
      }
      nodes[i].flows.push_back(reached[static_cast<size_t>(source)] ? GradientFlow::kAdd : GradientFlow::kWrite);
      reached[static_cast<size_t>(source)] = true;
    }
  }
}

absl::Status Graph::Allocate(Device& device, DType type, int64_t max_rows, int lanes) {
  for (Node& node : nodes) {
    const Shape shape = Batched(max_rows, node.output);
    const bool last = &node == &nodes.back();
    node.memory.resize(static_cast<size_t>(lanes));
    for (size_t lane = 0; lane < node.memory.size(); ++lane) {
      NodeMemory& memory = node.memory[lane];
      const int source = node.sources[0];
      const NodeMemory none;
      const NodeMemory& before = source == kModelInput ? none : nodes[static_cast<size_t>(source)].memory[lane];
      memory.y = memory.dy = {nullptr, shape, type, node.layout};
      LOCKSTEP_RETURN_IF_ERROR(TakeOutputs(device, type, node, last, before, memory));
      const int64_t scratch = node.layer->scratch_size(max_rows);
      if (scratch > 0) {
        memory.scratch = {nullptr, Shape{scratch}, DType::kF64};
        LOCKSTEP_ASSIGN_OR_RETURN(memory.scratch.data, Take(device, memory.scratch.bytes()));
      }
      LayerContext& context = node.calls[lane].context;
      context.layer_index = node.index;
      context.fused_activation = node.fused_activation;
      context.source_activation = node.source_activation;
      if (!node.source_activation.linear()) {
        const int fused = nodes[static_cast<size_t>(source)].sources[0];
        context.source_scratch = nodes[static_cast<size_t>(fused)].memory[lane].scratch;
      }
      context.scratch = memory.scratch;
    }
  }
  return TakeSums(device, type, max_rows);
}

absl::Status Graph::TakeOutputs(Device& device, DType type, const Node& node, bool last, const NodeMemory& before,
                                NodeMemory& memory) {
  const auto elements = static_cast<size_t>(device.LayoutElements(memory.y.shape, node.layout));
  const bool own_dy = !node.shares_dy && (node.wants_gradient || last);
  // A line more, since the gradient begins on one.
  const size_t factors = RoundUpToLine(elements * SizeOf(TrainingType(node, type)));
  const bool together = node.is_factor && !node.shares_y && own_dy;
  if (node.shares_y) {
    memory.y.data = before.y.data;
  } else {
    const size_t floats = elements * SizeOf(type);
    LOCKSTEP_ASSIGN_OR_RETURN(memory.y.data, Take(device, together ? std::max(2 * factors, floats) : floats));
  }
  if (node.shares_dy) {
    memory.dy.data = before.dy.data;
  } else if (together) {
    memory.dy.data = memory.y.as<std::byte>() + factors;
  } else if (own_dy) {
    LOCKSTEP_ASSIGN_OR_RETURN(memory.dy.data, Take(device, elements * SizeOf(type)));
  }
  return absl::OkStatus();
}

// As many as one layer needs at once, each of the size of the largest.
absl::Status Graph::TakeSums(Device& device, DType type, int64_t max_rows) {
  size_t most = 0, largest = 0;
  for (const Node& node : nodes) {
    most = std::max(most, static_cast<size_t>(std::ranges::count(node.flows, GradientFlow::kAdd)));
    for (size_t k = 0; k < node.flows.size(); ++k) {
      if (node.flows[k] != GradientFlow::kAdd) continue;
      const Node& source = nodes[static_cast<size_t>(node.sources[k])];
      const int64_t elements = device.LayoutElements(Batched(max_rows, source.output), source.layout);
      largest = std::max(largest, static_cast<size_t>(elements) * SizeOf(TrainingType(source, type)));
    }
  }
  sums.resize(most);
  for (Tensor& sum : sums) {
    sum.type = type;
    LOCKSTEP_ASSIGN_OR_RETURN(sum.data, Take(device, largest));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::byte*> Graph::Take(Device& device, size_t bytes) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, device.Allocate(bytes));
  buffers_.push_back(std::move(buffer));
  return static_cast<std::byte*>(buffers_.back()->data());
}

}  // namespace lockstep
