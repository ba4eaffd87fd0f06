// SPDX-License-Identifier: Apache-2.0
// Graph: the layers of a model with their place in memory, and the order in which gradients meet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/model_plan.h"
#include "worker/device/device.h"
#include "worker/nn/layer.h"

namespace lockstep {

// How a layer's gradient reaches one of its inputs.
enum class GradientFlow : uint8_t {
  // Nobody before needs it.
  kNone,
  // It is the first to reach this input.
  kWrite,
  // Another layer's is there already.
  kAdd,
};

// What one micro-batch leaves behind in a layer. A view or a fused layer shares the memory of the layer
// before it, and one that passes its gradient on that of the gradient; a view of the samples has none.
struct NodeMemory {
  // [max_rows, output...].
  Tensor y;
  // Its gradient; null data where nobody needs it. Of a factor it lies behind y: the floats of a model that is judged
  // take the place of both.
  Tensor dy;
  Tensor scratch;
};

// What a layer is given for the micro-batch that is in the model: the tensors of Layer::Forward and Backward.
struct NodeCall {
  // What the layer has of its own is set once, the step's for each call.
  LayerContext context;
  std::vector<Tensor> x;
  Tensor y;
  Tensor dy;
  std::vector<Tensor> dx;
};

// One layer with its place in memory, or a copy into another layout of what a layer puts out.
struct Node {
  std::unique_ptr<Layer> layer;
  // The layer's place in the plan; a copy has that of the layer it is made for.
  int index = 0;
  // Places in Graph::nodes, or kModelInput.
  std::vector<int> sources;
  bool is_copy = false;
  // Of the output and its gradient.
  Layout layout = Layout::kRowMajor;
  // Of one sample.
  Shape output;
  // Range in the model's parameters.
  size_t first_parameter = 0;
  size_t parameter_count = 0;
  // Something here or before it is trained.
  bool wants_gradient = false;
  // One for each source.
  std::vector<GradientFlow> flows;
  // This layer's function is applied by the layer before it.
  bool fused_into_source = false;
  ActivationArgs fused_activation;
  // The activation that put out the source, whose gradient this layer applies, and whether the only user of this
  // activation does so.
  ActivationArgs source_activation;
  bool gradient_is_fused = false;
  // y and dy are the first source's.
  bool shares_y = false;
  bool shares_dy = false;
  // While training, y and dy are of the precision's Device::FactorType: images in the device's layout, and what
  // products alone read and write.
  bool is_factor = false;
  // One for each micro-batch that is in the model at a time.
  std::vector<NodeMemory> memory;
  std::vector<NodeCall> calls;
};

struct Graph {
  std::vector<Node> nodes;
  // For gradients that are added to others: as many as one layer needs at once.
  std::vector<Tensor> sums;

  // Takes the first `count` layers of the plan. `lanes`: micro-batches that are in the model at a time,
  // each of at most `max_rows` samples. RESOURCE_EXHAUSTED where memory is short.
  absl::Status Build(Device& device, const ModelPlan& plan, size_t count, DType type, ProductPrecision precision,
                     int64_t max_rows, int lanes);

  // Points the calls of a micro-batch at its memory. inputs: [rows, sample...]. `training`: for a pass in the precision
  // given to Build. Does nothing where the newest was the same.
  void Bind(size_t lane, const Tensor& inputs, bool training);
  // After Bind: the output of a node, or the samples of kModelInput.
  const Tensor& Output(int source, size_t lane) const {
    return source == kModelInput ? bound_[lane].inputs : nodes[static_cast<size_t>(source)].calls[lane].y;
  }
  // Not 0: nothing but products of dense layers reads the samples, and the widest has so many columns.
  int64_t ColumnsOfSamples(const ModelPlan& plan) const;

 private:
  void AddLayer(Device& device, const ModelPlan& plan, size_t index, LayoutChoice choice, int64_t max_rows);
  // The node that holds what `source` puts out in this layout, which may be `source`.
  int InLayout(int source, Layout layout, const Shape& output, int index);
  void AddNode(Node node);
  Layout LayoutOf(int source) const;
  void PlanFusion(const ModelPlan& plan);
  void PlanFusedGradients(const std::vector<int>& uses);
  std::vector<int> CountUses() const;
  void PlanGradients();
  void PlanFactors(const std::vector<int>& uses);
  DType TrainingType(const Node& node, DType type) const { return node.is_factor ? factor_type_ : type; }
  absl::Status Allocate(Device& device, DType type, int64_t max_rows, int lanes);
  absl::Status TakeOutputs(Device& device, DType type, const Node& node, bool last, const NodeMemory& before,
                           NodeMemory& memory);
  absl::Status TakeSums(Device& device, DType type, int64_t max_rows);
  absl::StatusOr<std::byte*> Take(Device& device, size_t bytes);

  // The node of each layer of the plan.
  std::vector<int> places_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  // What the calls of a lane are for.
  struct Bound {
    Tensor inputs;
    bool training = false;
  };
  std::vector<Bound> bound_;
  DType factor_type_ = DType::kF32;
};

}  // namespace lockstep
