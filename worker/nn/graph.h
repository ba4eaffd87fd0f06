// SPDX-License-Identifier: Apache-2.0
// Graph: the layers of a model with their place in memory, and the order in which gradients meet.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
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
// before it; a view of the samples has none.
struct NodeMemory {
  // [max_rows, output...].
  Tensor y;
  // Its gradient; null data where nobody needs it.
  Tensor dy;
  Tensor scratch;
};

// What a layer is given for the micro-batch that is in the model: the tensors of Layer::Forward and Backward.
struct NodeCall {
  // What the layer has of its own is set once, the step's for each call.
  StepContext context;
  std::vector<Tensor> x;
  Tensor y;
  Tensor dy;
  std::vector<Tensor> dx;
};

// One layer with its place in memory.
struct Node {
  std::unique_ptr<Layer> layer;
  int index = 0;
  std::vector<int> sources;
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
  // y and dy are the source's.
  bool shares_y = false;
  bool shares_dy = false;
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
  absl::Status Build(Device& device, const ModelPlan& plan, size_t count, DType type, int64_t max_rows, int lanes);

  // Points the calls of a micro-batch at its memory. inputs: [rows, sample...]. Does nothing where the newest was of
  // the same tensor.
  void Bind(size_t lane, const Tensor& inputs);
  // After Bind: the output of a layer, or the samples of kModelInput.
  const Tensor& Output(int source, size_t lane) const {
    return source == kModelInput ? bound_[lane] : nodes[static_cast<size_t>(source)].calls[lane].y;
  }

 private:
  void PlanFusion(const ModelPlan& plan, size_t count);
  void PlanGradients();
  absl::Status Allocate(Device& device, DType type, int64_t max_rows, int lanes);

  std::vector<std::unique_ptr<Buffer>> buffers_;
  // The samples of each lane.
  std::vector<Tensor> bound_;
};

}  // namespace lockstep
