// SPDX-License-Identifier: Apache-2.0
#include "common/model/model_plan.h"

#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/model/layers/layers.h"
#include "common/model/registry.h"
#include "common/model/text.h"

namespace lockstep {

namespace {

constexpr size_t kMaxNameLength = 63;

bool ValidLayerName(const std::string& name) {
  if (name.size() > kMaxNameLength) return false;
  for (char c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '-' && c != '.') return false;
  }
  return true;
}

// Names of layers: those given, and "dense", "dense_1", ... for the others.
class LayerNames {
 public:
  explicit LayerNames(const v1::ModelSpec& spec) {
    for (const v1::LayerSpec& layer : spec.layers()) given_.insert(layer.name());
  }

  std::string Choose(const v1::LayerSpec& layer, const std::string& kind, const std::string& field,
                     Violations& violations) {
    if (layer.name().empty()) return Automatic(kind);
    if (!ValidLayerName(layer.name())) {
      violations.Add(field + ".name", absl::StrCat(Quoted(layer.name()), " is not a layer's name: use 1 to ",
                                                   kMaxNameLength, " letters, digits, \"_\", \"-\" and \".\""));
    } else if (!used_.insert(layer.name()).second) {
      violations.Add(field + ".name", absl::StrCat("another layer is called ", Quoted(layer.name()), " already"));
    }
    return layer.name();
  }

 private:
  std::string Automatic(const std::string& kind) {
    std::string name;
    do {
      const int64_t number = next_[kind]++;
      name = number == 0 ? kind : absl::StrCat(kind, "_", number);
    } while (given_.count(name) > 0);
    return name;
  }

  std::set<std::string> given_;
  std::set<std::string> used_;
  std::map<std::string, int64_t> next_;
};

// The shape of one sample; rank 0 where it is not known or not usable.
Shape InputShape(const v1::ModelSpec& spec, const Shape& from_data, Violations& violations) {
  const std::string field = "model.input_shape";
  const bool usable = CheckedElements(from_data.dims(), kMaxTensorElements) >= 1;
  if (!usable) {
    violations.Add("dataset", absl::StrCat("a sample of the shape ", from_data.ToString(), " is empty or too large"));
    return Shape();
  }
  if (spec.input_shape_size() == 0) return from_data;
  if (spec.input_shape_size() > Shape::kMaxRank) {
    violations.Add(field,
                   absl::StrCat("has ", spec.input_shape_size(), " axes; at most ", Shape::kMaxRank, " are allowed"));
    return from_data;
  }
  const Shape given(std::span<const int64_t>(spec.input_shape().data(), static_cast<size_t>(spec.input_shape_size())));
  for (int axis = 0; axis < given.rank(); ++axis) {
    if (given[axis] >= 1) continue;
    violations.Add(absl::StrCat(field, "[", axis, "]"), absl::StrCat("must be at least 1, not ", given[axis]));
    return from_data;
  }
  if (CheckedElements(given.dims(), kMaxTensorElements) < 0) {
    violations.Add(field, absl::StrCat(given.ToString(), " is larger than the limit of ", kMaxTensorElements,
                                       " numbers for one sample"));
    return from_data;
  }
  if (from_data.rank() > 0 && !(given == from_data)) {
    violations.Add(field, absl::StrCat("is ", given.ToString(), ", but a sample of the data set has the shape ",
                                       from_data.ToString(), "; leave it out to take the data set's"));
    return from_data;
  }
  return given;
}

// Adds the layer and, for a dense layer with an activation, the activation behind it.
void AddLayer(LayerPlan layer, ModelPlan& plan, Violations& violations) {
  layer.input = plan.output;
  FindDescribe(layer.kind)(layer, violations);
  plan.output = layer.output;
  const std::string activation = layer.kind == "dense" ? layer.spec.dense().activation() : "";
  LayerPlan second{.name = absl::StrCat(layer.name, "/", activation), .kind = activation, .field = layer.field};
  // The activation is a layer of its own from here on.
  if (layer.kind == "dense") layer.spec.mutable_dense()->clear_activation();
  plan.layers.push_back(std::move(layer));
  bool known = false;
  for (const std::string& name : KnownActivations()) known = known || name == activation;
  if (!known) return;
  SetLayerKind(second.spec, activation);
  AddLayer(std::move(second), plan, violations);
}

}  // namespace

int64_t ModelPlan::parameter_count() const {
  int64_t count = 0;
  for (const LayerPlan& layer : layers) {
    for (const ParameterPlan& parameter : layer.parameters) count += parameter.shape.elements();
  }
  return count;
}

ModelPlan PlanModel(const v1::ModelSpec& spec, const Shape& input, Violations& violations) {
  ModelPlan plan;
  if (spec.layers_size() == 0) {
    violations.Add("model.layers", "is empty; give at least one layer");
    return plan;
  }
  if (spec.layers_size() > kMaxLayers) {
    violations.Add("model.layers", absl::StrCat("has ", WithThousands(spec.layers_size()), " layers; at most ",
                                                WithThousands(kMaxLayers), " are allowed"));
    return plan;
  }
  plan.input = InputShape(spec, input, violations);
  plan.output = plan.input;
  LayerNames names(spec);
  for (int i = 0; i < spec.layers_size(); ++i) {
    const v1::LayerSpec& layer = spec.layers(i);
    const std::string field = absl::StrCat("model.layers[", i, "]");
    const std::string kind = LayerKind(layer);
    if (FindDescribe(kind) == nullptr) {
      violations.Add(field, absl::StrCat("names no kind of layer; choose one of ", absl::StrJoin(LayerKinds(), ", ")));
      plan.output = Shape();
      continue;
    }
    AddLayer({.name = names.Choose(layer, kind, field, violations), .kind = kind, .field = field, .spec = layer}, plan,
             violations);
  }
  // At most 10,000 layers of two tensors of 2^31 numbers each: the sum cannot overflow.
  if (plan.parameter_count() > kMaxParameters) {
    violations.Add("model.layers",
                   absl::StrCat("have ", WithThousands(plan.parameter_count()), " parameters together; at most ",
                                WithThousands(kMaxParameters), " are allowed"));
  }
  return plan;
}

}  // namespace lockstep
