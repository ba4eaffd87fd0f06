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

constexpr const char* kInputName = "input";

struct Registered {
  std::string_view kind;
  DescribeFunction describe;
};

constexpr Registered kRegistry[] = {
#define LOCKSTEP_LAYER(kind, Name) {#kind, Describe##Name},
#include "common/model/registry.def"
#undef LOCKSTEP_LAYER
};

std::string KindOf(const v1::LayerSpec& spec) {
  const auto* oneof = v1::LayerSpec::descriptor()->FindOneofByName("kind");
  const auto* field = spec.GetReflection()->GetOneofFieldDescriptor(spec, oneof);
  return field == nullptr ? "" : field->name();
}

// What a layer names as its activation; empty for kinds without one.
std::string ActivationOf(const v1::LayerSpec& spec, const std::string& kind) {
  const auto* kind_field = v1::LayerSpec::descriptor()->FindFieldByName(kind);
  const auto* field = kind_field->message_type()->FindFieldByName("activation");
  if (field == nullptr) return "";
  const auto& layer = spec.GetReflection()->GetMessage(spec, kind_field);
  return layer.GetReflection()->GetString(layer, field);
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

// Kinds that are element-wise functions, or nearly: what a layer may name as its activation.
const std::vector<std::string>& ActivationKinds() {
  static const std::vector<std::string> kinds{
#define LOCKSTEP_LAYER(kind, Name)
#define LOCKSTEP_ACTIVATION(kind, Name) #kind,
#include "common/model/registry.def"
#undef LOCKSTEP_ACTIVATION
#undef LOCKSTEP_LAYER
  };
  return kinds;
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
      if (!layer.name().empty() && (!ValidName(layer.name()) || layer.name() == kInputName)) {
        violations_.Add(field + ".name", "must be 1 to 63 letters, digits, _ or -, and not \"input\"");
      } else if (!layer.name().empty() && !given.insert(layer.name()).second) {
        violations_.Add(field + ".name", absl::StrCat("\"", layer.name(), "\" is the name of an earlier layer too"));
      }
      // After a fault the shapes are unknown: the rest is checked for what can still be said.
      if (!AddLayer(layer, field)) break;
    }
    CheckAllUsed();
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
    const std::string activation = ActivationOf(layer, kind);
    if (!Append(name, kind, field, layer, Sources(layer, field))) return false;
    // Whoever names this layer means what it puts out, its activation included.
    by_name_[name] = last();
    if (activation.empty() || activation == "linear") return true;
    if (std::ranges::find(ActivationKinds(), activation) == ActivationKinds().end()) {
      violations_.Add(
          absl::StrCat(field, ".", kind, ".activation"),
          absl::StrCat("unknown activation \"", activation.substr(0, 64), "\"",
                       DidYouMean(activation, ActivationKinds()), " Known: ", absl::StrJoin(ActivationKinds(), ", ")));
      return true;
    }
    const bool more = Append(name + "/" + activation, activation, field, SpecOfKind(activation), {last()});
    by_name_[name] = last();
    return more;
  }

  int last() const { return static_cast<int>(plan_.layers.size()) - 1; }

  // Where the layer's inputs come from: as named, or the layer before.
  std::vector<int> Sources(const v1::LayerSpec& layer, const std::string& field) {
    std::vector<int> sources;
    for (int i = 0; i < layer.inputs_size(); ++i) {
      const std::string& name = layer.inputs(i);
      const auto found = by_name_.find(name);
      if (name == kInputName) {
        sources.push_back(kModelInput);
      } else if (found != by_name_.end()) {
        sources.push_back(found->second);
      } else {
        std::vector<std::string> known{kInputName};
        for (const auto& [earlier, index] : by_name_) known.push_back(earlier);
        violations_.Add(absl::StrCat(field, ".inputs[", i, "]"),
                        absl::StrCat("no earlier layer is called \"", name.substr(0, 64), "\"", DidYouMean(name, known),
                                     " A layer is named before it is used; \"input\" means ", "the samples"));
      }
    }
    if (sources.empty()) sources.push_back(last());
    return sources;
  }

  // False: no further layer makes sense.
  bool Append(const std::string& name, const std::string& kind, const std::string& field, const v1::LayerSpec& spec,
              std::vector<int> sources) {
    LayerPlan layer{.name = name, .kind = kind, .field = field, .spec = spec, .sources = std::move(sources)};
    for (const int source : layer.sources) {
      layer.inputs.push_back(source == kModelInput ? plan_.input : plan_.layers[static_cast<size_t>(source)].output);
    }
    layer.input = layer.inputs[0];
    layer.output = layer.input;
    const size_t before = violations_.count();
    for (const Registered& r : kRegistry) {
      if (r.kind == kind) r.describe(layer, violations_);
    }
    if (layer.inputs.size() > 1 && !layer.merges) {
      violations_.Add(field + ".inputs", absl::StrCat("has ", layer.inputs.size(), " names, but ", kind,
                                                      " takes one input; put an add or concatenate before it"));
    }
    const bool frozen = spec.has_trainable() && !spec.trainable();
    for (ParameterPlan& p : layer.parameters) {
      p.name = name + "/" + p.name;
      p.trainable = p.trainable && !frozen;
      if (frozen) p.moving_momentum.reset();
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

  void CheckAllUsed() {
    std::vector<bool> used(plan_.layers.size(), false);
    for (const LayerPlan& layer : plan_.layers) {
      for (const int source : layer.sources) {
        if (source != kModelInput) used[static_cast<size_t>(source)] = true;
      }
    }
    for (size_t i = 0; i + 1 < plan_.layers.size(); ++i) {
      if (used[i]) continue;
      violations_.Add(plan_.layers[i].field, absl::StrCat("nothing uses the output of \"", plan_.layers[i].name,
                                                          "\"; name it in a later layer's inputs or leave it out"));
    }
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
  // Given names and automatic ones.
  std::map<std::string, int> by_name_;
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

int64_t ModelPlan::trainable_count() const {
  int64_t count = 0;
  for (const LayerPlan& layer : layers) {
    for (const ParameterPlan& p : layer.parameters) count += p.trainable ? p.shape.elements() : 0;
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
