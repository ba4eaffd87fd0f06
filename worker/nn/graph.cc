// SPDX-License-Identifier: Apache-2.0
#include "worker/nn/graph.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "common/status_macros.h"

namespace lockstep {

namespace {

bool IsTrained(const ParameterPlan& p) { return p.trainable || p.moving_momentum.has_value(); }

// [rows, sample...]
Shape Batched(int64_t rows, const Shape& sample) {
  std::array<int64_t, Shape::kMaxRank> dims{rows};
  std::ranges::copy(sample.dims(), dims.begin() + 1);
  return Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(sample.rank()) + 1));
}

}  // namespace

absl::Status Graph::Build(Device& device, const ModelPlan& plan, size_t count, DType type, int64_t max_rows,
                          int lanes) {
  size_t parameters = 0;
  for (size_t i = 0; i < count; ++i) {
    const LayerPlan& layer = plan.layers[i];
    Node node{
        .layer = MakeLayer(layer), .index = static_cast<int>(i), .sources = layer.sources, .output = layer.output};
    node.first_parameter = parameters;
    node.parameter_count = layer.parameters.size();
    parameters += node.parameter_count;
    node.wants_gradient = std::ranges::any_of(layer.parameters, IsTrained);
    for (const int source : node.sources) {
      if (source != kModelInput && nodes[static_cast<size_t>(source)].wants_gradient) node.wants_gradient = true;
    }
    node.calls.resize(static_cast<size_t>(lanes), {.context = {},
                                                   .x = std::vector<Tensor>(node.sources.size()),
                                                   .y = {},
                                                   .dy = {},
                                                   .dx = std::vector<Tensor>(node.sources.size())});
    nodes.push_back(std::move(node));
  }
  bound_.resize(static_cast<size_t>(lanes));
  PlanFusion(plan, count);
  PlanGradients();
  return Allocate(device, type, max_rows, lanes);
}

void Graph::Bind(size_t lane, const Tensor& inputs) {
  if (bound_[lane].data == inputs.data && bound_[lane].shape == inputs.shape) return;
  bound_[lane] = inputs;
  const int64_t rows = inputs.shape[0];
  for (Node& node : nodes) {
    NodeCall& call = node.calls[lane];
    for (size_t k = 0; k < node.sources.size(); ++k) call.x[k] = Output(node.sources[k], lane);
    const NodeMemory& memory = node.memory[lane];
    const Shape shape = Batched(rows, node.output);
    // A view of the samples is the batch under the view's shape.
    call.y = (memory.y.data == nullptr ? inputs : memory.y).Reshaped(shape);
    call.dy = memory.dy.Reshaped(shape);
    size_t added = 0;
    for (size_t k = 0; k < node.sources.size(); ++k) {
      if (node.flows[k] == GradientFlow::kNone) continue;
      const Node& source = nodes[static_cast<size_t>(node.sources[k])];
      const Tensor& to = node.flows[k] == GradientFlow::kAdd ? sums[added++] : source.memory[lane].dy;
      call.dx[k] = to.Reshaped(Batched(rows, source.output));
    }
  }
}

// A layer shares its only source's memory where that one has no other use.
void Graph::PlanFusion(const ModelPlan& plan, size_t count) {
  std::vector<int> uses(count, 0);
  for (const Node& node : nodes) {
    for (const int source : node.sources) {
      if (source != kModelInput) ++uses[static_cast<size_t>(source)];
    }
  }
  for (Node& node : nodes) {
    const int source = node.sources[0];
    const bool from_input = source == kModelInput;
    const bool only_use = !from_input && uses[static_cast<size_t>(source)] == 1;
    if (node.layer->is_view()) {
      node.shares_y = true;
      node.shares_dy = only_use;
      continue;
    }
    const ActivationArgs activation = node.layer->fusable_activation();
    if (activation.linear() || !only_use || plan.layers[static_cast<size_t>(node.index)].merges) continue;
    Node& before = nodes[static_cast<size_t>(source)];
    if (!before.layer->can_fuse() || !before.fused_activation.linear()) continue;
    before.fused_activation = activation;
    node.fused_into_source = node.shares_y = node.shares_dy = true;
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
  const auto take = [&](const Shape& shape, DType of, Tensor& out) -> absl::Status {
    out = {nullptr, shape, of};
    LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, device.Allocate(out.bytes()));
    out.data = buffer->data();
    buffers_.push_back(std::move(buffer));
    return absl::OkStatus();
  };
  int64_t largest = 0;
  size_t most = 0;
  for (Node& node : nodes) {
    const Shape shape = Batched(max_rows, node.output);
    const bool last = &node == &nodes.back();
    node.memory.resize(static_cast<size_t>(lanes));
    for (size_t lane = 0; lane < node.memory.size(); ++lane) {
      NodeMemory& memory = node.memory[lane];
      const int source = node.sources[0];
      const NodeMemory none;
      const NodeMemory& before = source == kModelInput ? none : nodes[static_cast<size_t>(source)].memory[lane];
      if (node.shares_y) {
        memory.y = before.y.Reshaped(shape);
      } else {
        LOCKSTEP_RETURN_IF_ERROR(take(shape, type, memory.y));
      }
      if (node.shares_dy) {
        memory.dy = before.dy.Reshaped(shape);
      } else if (node.wants_gradient || last) {
        LOCKSTEP_RETURN_IF_ERROR(take(shape, type, memory.dy));
      }
      const int64_t scratch = node.layer->scratch_size(max_rows);
      if (scratch > 0) LOCKSTEP_RETURN_IF_ERROR(take(Shape{scratch}, DType::kF64, memory.scratch));
      StepContext& context = node.calls[lane].context;
      context.layer_index = node.index;
      context.fused_activation = node.fused_activation;
      context.scratch = memory.scratch;
    }
    most = std::max(most, static_cast<size_t>(std::ranges::count(node.flows, GradientFlow::kAdd)));
    for (size_t k = 0; k < node.flows.size(); ++k) {
      if (node.flows[k] != GradientFlow::kAdd) continue;
      largest = std::max(largest, max_rows * nodes[static_cast<size_t>(node.sources[k])].output.elements());
    }
  }
  sums.resize(most);
  for (Tensor& sum : sums) LOCKSTEP_RETURN_IF_ERROR(take(Shape{largest}, type, sum));
  return absl::OkStatus();
}

}  // namespace lockstep
