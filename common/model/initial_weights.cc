// SPDX-License-Identifier: Apache-2.0
#include "common/model/initial_weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "common/formats/safe_path.h"
#include "common/model/names.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

constexpr const char* kField = "model.initial_weights";
constexpr const char* kPathField = "model.initial_weights.path";

bool FromPytorch(const v1::InitialWeights& spec) { return spec.names() == v1::TENSOR_NAMES_PYTORCH; }

// "kernel" as PyTorch calls it.
std::string PytorchName(absl::string_view parameter) {
  static constexpr std::pair<absl::string_view, const char*> kNames[] = {{"kernel", "weight"},
                                                                         {"bias", "bias"},
                                                                         {"gamma", "weight"},
                                                                         {"beta", "bias"},
                                                                         {"moving_mean", "running_mean"},
                                                                         {"moving_variance", "running_var"}};
  for (const auto& [own, theirs] : kNames) {
    if (parameter == own) return theirs;
  }
  return std::string(parameter);
}

// A tensor's layer and name: "dense_1/kernel", or "block.0.conv.weight" of the layer block_0_conv.
std::pair<std::string, std::string> Split(const std::string& tensor, bool pytorch) {
  const size_t at = tensor.rfind(pytorch ? '.' : '/');
  if (at == std::string::npos) return {"", tensor};
  std::string layer = tensor.substr(0, at);
  // No layer has a dot in its name.
  if (pytorch) layer = absl::StrReplaceAll(layer, {{".", "_"}});
  return {layer, tensor.substr(at + 1)};
}

// What PyTorch's batch normalisation keeps besides; nothing here needs it.
bool IsCounter(const std::string& name, bool pytorch) { return pytorch && name == "num_batches_tracked"; }

bool IsRead(const std::string& dtype) { return dtype == "F32" || dtype == "F64" || dtype == "F16" || dtype == "BF16"; }

class Matcher {
 public:
  Matcher(const v1::InitialWeights& spec, const ModelPlan& plan, const std::vector<TensorRead>& tensors,
          const std::string& file, Violations& violations)
      : spec_(spec),
        plan_(plan),
        tensors_(tensors),
        file_(file),
        violations_(violations),
        pytorch_(FromPytorch(spec)),
        excluded_(spec.exclude_layers().begin(), spec.exclude_layers().end()) {}

  std::vector<WeightMatch> Run() {
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const auto [layer, name] = Split(tensors_[i].name, pytorch_);
      file_layers_.insert(layer);
      if (IsCounter(name, pytorch_) || excluded_.contains(layer)) continue;
      const auto [at, is_new] = open_.try_emplace({layer, name}, i);
      if (!is_new) {
        Add(kPathField, absl::StrCat("has both ", tensors_[at->second].name, " and ", tensors_[i].name,
                                     ", which would be the same parameter"));
      }
    }
    CheckExcluded();
    for (const LayerPlan& layer : plan_.layers) {
      for (const ParameterPlan& parameter : layer.parameters) Match(layer, parameter);
    }
    for (const auto& [name, index] : open_) {
      Add(kPathField, absl::StrCat("has ", tensors_[index].name, " ", tensors_[index].shape.ToString(),
                                   ", which is no parameter of the model; name its layer ", name.first,
                                   " in exclude_layers to leave it out"));
    }
    return std::move(matches_);
  }

 private:
  void Add(const std::string& field, const std::string& what) {
    violations_.Add(field, absl::StrCat(file_, ": ", what));
  }

  void CheckExcluded() {
    std::vector<std::string> known(file_layers_.begin(), file_layers_.end());
    for (const LayerPlan& layer : plan_.layers) {
      if (!layer.parameters.empty()) known.push_back(layer.name);
    }
    for (int i = 0; i < spec_.exclude_layers_size(); ++i) {
      const std::string& name = spec_.exclude_layers(i);
      if (std::ranges::find(known, name) != known.end()) continue;
      violations_.Add(
          absl::StrCat(kField, ".exclude_layers[", i, "]"),
          absl::StrCat("no layer with weights is called \"", name.substr(0, 64), "\"", DidYouMean(name, known)));
    }
  }

  void Match(const LayerPlan& layer, const ParameterPlan& parameter) {
    if (excluded_.contains(layer.name)) return;
    const std::string own = parameter.name.substr(layer.name.size() + 1);
    const std::string name = pytorch_ ? PytorchName(own) : own;
    const bool transposed = pytorch_ && layer.kind == "dense" && own == "kernel";
    const Shape expected = transposed ? Shape{parameter.shape[1], parameter.shape[0]} : parameter.shape;
    const auto found = open_.find({layer.name, name});
    if (found == open_.end()) {
      Add(kPathField, absl::StrCat("has no tensor ", layer.name, pytorch_ ? "." : "/", name, " ", expected.ToString(),
                                   "; name the layer in exclude_layers to start it from its initialiser"));
      return;
    }
    const TensorRead& tensor = tensors_[found->second];
    if (!(tensor.shape == expected)) {
      Add(kPathField, absl::StrCat(tensor.name, " has the shape ", tensor.shape.ToString(), "; the model needs ",
                                   expected.ToString()));
    } else if (!IsRead(tensor.dtype)) {
      Add(kPathField, absl::StrCat(tensor.name, " is of the type ", tensor.dtype, "; F32, F64, F16 and BF16 are read"));
    } else {
      matches_.push_back({found->second, parameter.name, parameter.shape, transposed});
    }
    open_.erase(found);
  }

  const v1::InitialWeights& spec_;
  const ModelPlan& plan_;
  const std::vector<TensorRead>& tensors_;
  const std::string& file_;
  Violations& violations_;
  const bool pytorch_;
  const std::set<std::string> excluded_;
  std::set<std::string> file_layers_;
  // Tensors that no parameter has taken yet, by layer and name.
  std::map<std::pair<std::string, std::string>, size_t> open_;
  std::vector<WeightMatch> matches_;
};

float FromHalf(uint16_t bits) {
  const int sign = bits >> 15, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  double value = 0;
  if (exponent == 31) {
    value = fraction == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    value = std::ldexp(fraction, -24);
  } else {
    value = std::ldexp(1024 + fraction, exponent - 25);
  }
  return static_cast<float>(sign != 0 ? -value : value);
}

float FromBfloat(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

// The file's bytes need not lie where a number may.
template <typename T, typename Convert>
std::vector<float> Read(std::span<const std::byte> bytes, Convert convert) {
  std::vector<float> values(bytes.size() / sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    values[i] = convert(value);
  }
  return values;
}

// [rows, columns] to [columns, rows].
std::vector<float> Transposed(const std::vector<float>& from, int64_t rows, int64_t columns) {
  std::vector<float> to(from.size());
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      to[static_cast<size_t>(j * rows + i)] = from[static_cast<size_t>(i * columns + j)];
    }
  }
  return to;
}

}  // namespace

std::vector<WeightMatch> MatchWeights(const v1::InitialWeights& spec, const ModelPlan& plan,
                                      const std::vector<TensorRead>& tensors, const std::string& file,
                                      Violations& violations) {
  return Matcher(spec, plan, tensors, file, violations).Run();
}

void CheckInitialWeights(const v1::ModelSpec& spec, const ModelPlan& plan, const std::vector<std::string>& data_roots,
                         Violations& violations) {
  if (!spec.has_initial_weights()) return;
  const v1::InitialWeights& weights = spec.initial_weights();
  if (!v1::TensorNames_IsValid(weights.names())) {
    violations.Add(absl::StrCat(kField, ".names"), "must be TENSOR_NAMES_LOCKSTEP or TENSOR_NAMES_PYTORCH");
  }
  if (weights.path().empty()) {
    violations.Add(kPathField, "is missing; name a safetensors file in the data roots");
    return;
  }
  const absl::StatusOr<File> file = OpenUnderRoots(weights.path(), data_roots);
  if (!file.ok()) {
    violations.Add(kPathField, std::string(file.status().message()));
    return;
  }
  const absl::StatusOr<SafetensorsFile> header = ReadSafetensorsHeader(file->fd(), file->path());
  if (!header.ok()) {
    violations.Add(kPathField, std::string(header.status().message()));
    return;
  }
  MatchWeights(weights, plan, header->tensors, weights.path(), violations);
}

absl::StatusOr<std::vector<InitialTensor>> ReadInitialWeights(const v1::ModelSpec& spec, const ModelPlan& plan,
                                                              const std::vector<std::string>& data_roots) {
  std::vector<InitialTensor> initial;
  if (!spec.has_initial_weights()) return initial;
  const v1::InitialWeights& weights = spec.initial_weights();
  LOCKSTEP_ASSIGN_OR_RETURN(const File opened, OpenUnderRoots(weights.path(), data_roots));
  LOCKSTEP_ASSIGN_OR_RETURN(const SafetensorsFile file, ReadSafetensors(opened.fd(), opened.path()));
  Violations violations;
  const std::vector<WeightMatch> matches = MatchWeights(weights, plan, file.tensors, weights.path(), violations);
  if (!violations.empty()) {
    const Violation& first = violations.list().front();
    return absl::InvalidArgumentError(absl::StrCat(first.field, ": ", first.description));
  }
  for (const WeightMatch& match : matches) {
    const TensorRead& tensor = file.tensors[match.tensor];
    LOCKSTEP_ASSIGN_OR_RETURN(std::vector<float> values, ToFloats(tensor));
    const auto finite = [](float v) { return std::isfinite(v); };
    if (!std::ranges::all_of(values, finite)) {
      return absl::InvalidArgumentError(
          absl::StrCat(kPathField, ": ", opened.path(), ": ", tensor.name, " holds a value that is no finite number"));
    }
    if (match.transposed) values = Transposed(values, tensor.shape[0], tensor.shape[1]);
    initial.push_back({match.parameter, std::move(values)});
  }
  return initial;
}

absl::StatusOr<std::vector<float>> ToFloats(const TensorRead& tensor) {
  if (tensor.dtype == "F32") return Read<float>(tensor.bytes, [](float v) { return v; });
  if (tensor.dtype == "F64") return Read<double>(tensor.bytes, [](double v) { return static_cast<float>(v); });
  if (tensor.dtype == "F16") return Read<uint16_t>(tensor.bytes, FromHalf);
  if (tensor.dtype == "BF16") return Read<uint16_t>(tensor.bytes, FromBfloat);
  return absl::InvalidArgumentError(
      absl::StrCat("tensor ", tensor.name, " is of the type ", tensor.dtype, "; F32, F64, F16 and BF16 are read"));
}

}  // namespace lockstep
