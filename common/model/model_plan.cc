// SPDX-License-Identifier: Apache-2.0
#include "common/model/model_plan.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/model/names.h"

namespace lockstep {

#define LOCKSTEP_LAYER(kind, Name) void Describe##Name(LayerPlan& plan, Violations& violations);
#include "common/model/registry.def"
#undef LOCKSTEP_LAYER

namespace {

struct Registered {
  std::string_view kind;
  DescribeFunction describe;
};

constexpr Registered kRegistry[] = {
#define LOCKSTEP_LAYER(kind, Name) {#kind, Describe##Name},
#include "common/model/registry.def"
#undef LOCKSTEP_LAYER
};

// What a dense layer may name as its activation: those that are layers too.
const std::vector<std::string>& Activations() {
  static const std::vector<std::string> names{"linear", "relu", "sigmoid", "tanh", "softmax"};
  return names;
}

std::string KindOf(const v1::LayerSpec& spec) {
  const auto* oneof = v1::LayerSpec::descriptor()->FindOneofByName("kind");
  const auto* field = spec.GetReflection()->GetOneofFieldDescriptor(spec, oneof);
  return field == nullptr ? "" : field->name();
}

v1::LayerSpec SpecOfKind(const std::string& kind) {
  v1::LayerSpec spec;
  spec.GetReflection()->MutableMessage(&spec, v1::LayerSpec::descriptor()->FindFieldByName(kind));
  return spec;
}

bool ValidName(std::string_view name) {
  constexpr size_t kLongest = 63;
  if (name.empty() || name.size() > kLongest) return false;
  for (char c : name) {
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-')) {
      return false;
    }
  }
  return true;
}

class Planner {
 public:
  Planner(const v1::ModelSpec& spec, const Shape& input, Violations& violations)
      : spec_(spec), violations_(violations) {
    plan_.input = input;
    plan_.output = input;
    for (const v1::LayerSpec& layer : spec.layers()) {
      if (!layer.name().empty()) taken_.insert(layer.name());
    }
  }

  ModelPlan Run() {
    std::set<std::string> given;
    for (int i = 0; i < spec_.layers_size(); ++i) {
      const v1::LayerSpec& layer = spec_.layers(i);
      const std::string field = absl::StrCat("model.layers[", i, "]");
      if (!layer.name().empty() && !ValidName(layer.name())) {
        violations_.Add(field + ".name", "must be 1 to 63 letters, digits, _ or -");
      } else if (!layer.name().empty() && !given.insert(layer.name()).second) {
        violations_.Add(field + ".name", absl::StrCat("\"", layer.name(), "\" is the name of an earlier layer too"));
      }
      // After a fault the shapes are unknown: the rest is checked for what can still be said.
      if (!AddLayer(layer, field)) break;
    }
    return std::move(plan_);
  }

 private:
  bool AddLayer(const v1::LayerSpec& layer, const std::string& field) {
    const std::string kind = KindOf(layer);
    if (kind.empty()) {
      violations_.Add(field, absl::StrCat("has no kind; give one of ", KindNames()));
      return true;
    }
    const std::string name = layer.name().empty() ? AutomaticName(kind) : layer.name();
    const std::string activation = kind == "dense" ? layer.dense().activation() : "";
    if (!Append(name, kind, field, layer)) return false;
    if (activation.empty() || activation == "linear") return true;
    if (std::ranges::find(Activations(), activation) == Activations().end()) {
      violations_.Add(field + ".dense.activation", absl::StrCat("unknown activation \"", activation.substr(0, 64), "\"",
                                                                DidYouMean(activation, Activations()),
                                                                " Known: ", absl::StrJoin(Activations(), ", ")));
      return true;
    }
    return Append(name + "/" + activation, activation, field, SpecOfKind(activation));
  }

  // False: no further layer makes sense.
  bool Append(const std::string& name, const std::string& kind, const std::string& field, const v1::LayerSpec& spec) {
    LayerPlan layer{.name = name, .kind = kind, .field = field, .spec = spec, .input = plan_.output};
    layer.output = layer.input;
    const size_t before = violations_.count();
    for (const Registered& r : kRegistry) {
      if (r.kind == kind) r.describe(layer, violations_);
    }
    for (ParameterPlan& p : layer.parameters) {
      p.name = name + "/" + p.name;
      parameters_ += p.shape.elements();
    }
    if (violations_.count() == before && parameters_ > kMaxParameters) {
      violations_.Add(field, absl::StrCat("the model has more than ", kMaxParameters, " parameters up to here"));
      return false;
    }
    plan_.output = layer.output;
    plan_.layers.push_back(std::move(layer));
    return true;
  }

  // As Keras: dense, dense_1, dense_2.
  std::string AutomaticName(const std::string& kind) {
    int& next = next_[kind];
    for (;; ++next) {
      std::string name = next == 0 ? kind : absl::StrCat(kind, "_", next);
      if (taken_.insert(name).second) {
        ++next;
        return name;
      }
    }
  }

  static std::string KindNames() {
    std::string names;
    for (const Registered& r : kRegistry)
      absl::StrAppend(&names, names.empty() ? "" : ", ", absl::string_view(r.kind.data(), r.kind.size()));
    return names;
  }

  const v1::ModelSpec& spec_;
  Violations& violations_;
  ModelPlan plan_;
  int64_t parameters_ = 0;
  std::set<std::string> taken_;
  std::map<std::string, int> next_;
};

}  // namespace

int64_t ModelPlan::parameter_count() const {
  int64_t count = 0;
  for (const LayerPlan& layer : layers) {
    for (const ParameterPlan& p : layer.parameters) count += p.shape.elements();
  }
  return count;
}

ModelPlan PlanModel(const v1::ModelSpec& spec, const Shape& input, Violations& violations) {
  if (spec.layers_size() == 0) {
    violations.Add("model.layers", "is empty; a model needs at least one layer");
    return {.input = input, .output = input};
  }
  if (spec.layers_size() > kMaxLayers) {
    violations.Add("model.layers", absl::StrCat("has ", spec.layers_size(), " layers; the limit is ", kMaxLayers));
    return {.input = input, .output = input};
  }
  return Planner(spec, input, violations).Run();
}

}  // namespace lockstep
