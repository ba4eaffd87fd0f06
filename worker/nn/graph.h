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
  // Filled in for each call.
  std::vector<Tensor> x, dx;
};

struct Graph {
  std::vector<Node> nodes;
  // For gradients that are added to others: as many as one layer needs at once.
  std::vector<Tensor> sums;

  // Takes the first `count` layers of the plan. `lanes`: micro-batches that are in the model at a time,
  // each of at most `max_rows` samples. RESOURCE_EXHAUSTED where memory is short.
  absl::Status Build(Device& device, const ModelPlan& plan, size_t count, DType type, int64_t max_rows, int lanes);

 private:
  void PlanFusion(const ModelPlan& plan, size_t count);
  void PlanGradients();
  absl::Status Allocate(Device& device, DType type, int64_t max_rows, int lanes);

  std::vector<std::unique_ptr<Buffer>> buffers_;
};

}  // namespace lockstep
