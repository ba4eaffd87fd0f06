// SPDX-License-Identifier: Apache-2.0
// What a model is, without arithmetic: each layer's shapes and parameters, worked out from the spec.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/model/violations.h"
#include "common/shape.h"
#include "lockstep/v1/model.pb.h"

namespace lockstep {

// One tensor of weights.
struct ParameterPlan {
  // "dense_1/kernel".
  std::string name;
  Shape shape;
  // Without a kind: zeros.
  lockstep::v1::InitializerSpec initializer;
  // For the initialiser's scale.
  int64_t fan_in = 1;
  int64_t fan_out = 1;
  // False: no optimizer changes it, because its layer is frozen or because it is a moving statistic.
  bool trainable = true;
  // Set for a moving statistic: after each step it becomes momentum * itself + (1 - momentum) * the
  // mean over the step's shards of what they put in its place in the gradient.
  std::optional<double> moving_momentum;
  // Added to the loss: l1 sum(|w|) + l2 sum(w^2).
  double l1 = 0;
  double l2 = 0;
};

// The samples, where a layer's inputs are listed.
inline constexpr int kModelInput = -1;

// One layer after shape inference. A dense layer with an activation becomes two of these.
struct LayerPlan {
  // "dense_1", unique in the model.
  std::string name;
  // Registry name: "dense".
  std::string kind;
  // As in the job file, for messages: "model.layers[2]".
  std::string field;
  // The layer's attributes; `kind` names the field of the oneof that is set.
  lockstep::v1::LayerSpec spec;
  // Where each input comes from: an index into ModelPlan::layers, below this layer's own, or kModelInput.
  std::vector<int> sources;
  // Of one sample; one for each source, at least one. `input` is the first.
  std::vector<Shape> inputs;
  Shape input;
  Shape output;
  std::vector<ParameterPlan> parameters;
  // Set by `describe`: more than one input makes sense.
  bool merges = false;
};

struct ModelPlan {
  Shape input;
  Shape output;
  std::vector<LayerPlan> layers;

  // Numbers in all parameters, and those of them that training changes by gradients.
  int64_t parameter_count() const;
  int64_t trainable_count() const;
};

// Limits that keep a hostile spec from costing memory.
inline constexpr int kMaxLayers = 10'000;
inline constexpr int64_t kMaxTensorElements = int64_t{1} << 31;
inline constexpr int64_t kMaxParameters = int64_t{1} << 33;

// Infers every shape from the shape of one sample. Adds what is wrong to `violations`; the plan is
// then incomplete.
ModelPlan PlanModel(const lockstep::v1::ModelSpec& spec, const Shape& input, Violations& violations);

// What PlanModel asks of each kind of layer: reads plan.spec and plan.input(s), and fills in
// plan.output, plan.parameters and plan.merges. Stateless. The functions are in common/model/layers/.
using DescribeFunction = void (*)(LayerPlan& plan, Violations& violations);

}  // namespace lockstep
