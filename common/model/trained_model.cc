// SPDX-License-Identifier: Apache-2.0
#include "common/model/trained_model.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/model/checks.h"
#include "common/status_macros.h"
#include "google/protobuf/util/json_util.h"

namespace lockstep {

namespace {

namespace fs = std::filesystem;

absl::Status Bad(const std::string& path, const std::string& what) {
  return absl::DataLossError(absl::StrCat(path, ": not a model that fits together: ", what));
}

absl::StatusOr<v1::JobSpec> ReadJob(const SafetensorsFile& file, const std::string& path) {
  const auto found = file.metadata.find(kJobKey);
  if (found == file.metadata.end()) {
    return absl::NotFoundError(absl::StrCat(path, ": says nothing of the model's layers; was it trained elsewhere?"));
  }
  v1::JobSpec job;
  const auto status = google::protobuf::util::JsonStringToMessage(found->second, &job);
  if (!status.ok()) return Bad(path, absl::StrCat("what it says of its layers: ", std::string(status.message())));
  return job;
}

absl::StatusOr<ModelPlan> Plan(const v1::JobSpec& job, const std::string& path) {
  const auto& dims = job.model().input_shape();
  if (dims.empty() || dims.size() > Shape::kMaxRank - 1 ||
      CheckedElements({dims.data(), static_cast<size_t>(dims.size())}, kMaxTensorElements) < 1) {
    return Bad(path, "the shape of a sample is missing or out of range");
  }
  Violations violations;
  ModelPlan plan = PlanModel(job.model(), Shape(std::span(dims.data(), static_cast<size_t>(dims.size()))), violations);
  if (violations.empty()) CheckLoss(job, nullptr, &plan, violations);
  if (violations.empty()) CheckMetrics(job, &plan, violations);
  if (violations.empty()) return plan;
  const Violation& first = violations.list().front();
  return Bad(path, absl::StrCat(first.field, ": ", first.description));
}

// One for all channels or one for each, as at submit.
bool FitsChannels(const std::vector<double>& values, const Shape& sample) {
  const size_t channels = sample.rank() == 3 ? static_cast<size_t>(sample[0]) : 1;
  return values.size() <= 1 || values.size() == channels;
}

bool FitFloats(const std::vector<double>& values, bool positive) {
  return std::ranges::all_of(values, [&](double v) {
    const auto f = static_cast<float>(v);
    return std::isfinite(f) && (f > 0 || !positive);
  });
}

absl::Status CheckPreprocessing(const Preprocessing& p, const ModelPlan& plan, const std::string& path) {
  if (!std::ranges::equal(p.sample_shape, plan.input.dims())) {
    return Bad(path, "its preprocessing makes samples of another shape than its layers take");
  }
  if (!FitsChannels(p.mean, plan.input) || !FitsChannels(p.stddev, plan.input) || !FitFloats(p.mean, false) ||
      !FitFloats(p.stddev, true) || !FitFloats({p.scale, p.offset}, false)) {
    return Bad(path, "its preprocessing's mean, stddev, scale or offset are not those of its channels");
  }
  if (!p.table.has_value()) return absl::OkStatus();
  size_t width = 0;
  for (const ColumnPreprocessing& column : p.table->features) width += column.width();
  const auto outputs = static_cast<size_t>(plan.output.elements());
  // One output tells two classes apart.
  if (plan.input.rank() != 1 || width != static_cast<size_t>(plan.input[0]) ||
      p.table->classes.size() > std::max<size_t>(outputs, 2)) {
    return Bad(path, "its table has other columns than its layers take, or more classes");
  }
  return absl::OkStatus();
}

absl::Status CheckWeights(const SafetensorsFile& file, const ModelPlan& plan, const std::string& path) {
  std::map<std::string, const TensorRead*> open;
  for (const TensorRead& tensor : file.tensors) open[tensor.name] = &tensor;
  for (const LayerPlan& layer : plan.layers) {
    for (const ParameterPlan& parameter : layer.parameters) {
      const auto found = open.find(parameter.name);
      if (found == open.end() || found->second->dtype != "F32" || !(found->second->shape == parameter.shape)) {
        return Bad(path,
                   absl::StrCat("no tensor ", parameter.name, " of type F32 and shape ", parameter.shape.ToString()));
      }
      open.erase(found);
    }
  }
  if (open.empty()) return absl::OkStatus();
  return Bad(path, absl::StrCat("tensor ", open.begin()->first, " belongs to no layer"));
}

}  // namespace

std::string ModelJobText(const v1::JobSpec& spec, const Shape& sample) {
  v1::JobSpec job;
  *job.mutable_model() = spec.model();
  // Where it started and how it was drawn says nothing of what it is now.
  job.mutable_model()->clear_initial_weights();
  job.mutable_model()->mutable_input_shape()->Assign(sample.dims().begin(), sample.dims().end());
  *job.mutable_loss() = spec.loss();
  *job.mutable_metrics() = spec.metrics();
  job.set_seed(spec.seed());
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  // Cannot fail for a message of this kind.
  if (!google::protobuf::util::MessageToJsonString(job, &text, options).ok()) text.clear();
  return text;
}

std::map<std::string, std::string> ModelMetadata(const v1::JobSpec& spec, const Shape& sample,
                                                 const Preprocessing& preprocessing) {
  return {{kJobKey, ModelJobText(spec, sample)}, {kPreprocessingKey, PreprocessingText(preprocessing)}};
}

absl::StatusOr<std::string> TrainedModelFile(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    if (fs::is_regular_file(path, error)) return path;
    return absl::NotFoundError(absl::StrCat(path, ": no such file or folder"));
  }
  for (const char* name : {"model.safetensors", "parameters.safetensors"}) {
    const fs::path file = fs::path(path) / name;
    if (fs::is_regular_file(file, error)) return file.native();
  }
  // What `lockstep run --out` leaves: the state of a coordinator that had one job.
  std::vector<std::string> models;
  for (const fs::directory_entry& job : fs::directory_iterator(fs::path(path) / "jobs", error)) {
    const fs::path file = job.path() / "model.safetensors";
    if (fs::is_regular_file(file, error)) models.push_back(file.native());
  }
  if (models.size() == 1) return models[0];
  if (models.size() > 1) {
    std::ranges::sort(models);
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": holds the models of ", models.size(), " jobs; name one, for example ", models[0]));
  }
  return absl::NotFoundError(absl::StrCat(path, ": holds no model.safetensors; has its job ended?"));
}

absl::StatusOr<TrainedModel> ReadTrainedModel(const std::string& path) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string file_path, TrainedModelFile(path));
  LOCKSTEP_ASSIGN_OR_RETURN(SafetensorsFile file, ReadSafetensors(file_path));
  return TrainedModelOf(std::move(file), file_path);
}

absl::StatusOr<TrainedModel> TrainedModelOf(SafetensorsFile file, const std::string& path) {
  TrainedModel model{.path = path, .job = {}, .plan = {}, .preprocessing = {}, .weights = std::move(file)};
  LOCKSTEP_ASSIGN_OR_RETURN(model.job, ReadJob(model.weights, path));
  LOCKSTEP_ASSIGN_OR_RETURN(model.preprocessing, PreprocessingOfModel(model.weights, path));
  LOCKSTEP_ASSIGN_OR_RETURN(model.plan, Plan(model.job, path));
  LOCKSTEP_RETURN_IF_ERROR(CheckPreprocessing(model.preprocessing, model.plan, path));
  LOCKSTEP_RETURN_IF_ERROR(CheckWeights(model.weights, model.plan, path));
  return model;
}

OnnxOptions OnnxOptionsOf(const std::map<std::string, std::string>& metadata) {
  OnnxOptions options;
  for (const char* key : {kJobKey, kPreprocessingKey}) {
    if (const auto found = metadata.find(key); found != metadata.end()) options.metadata.insert(*found);
  }
  options.description =
      "Takes samples after the preprocessing that the metadata describes: x = value * scale + offset, then "
      "(x - mean) / stddev by channel; a table column by column. Its output is what the loss in the metadata is "
      "given: logits, probabilities or numbers.";
  return options;
}

absl::StatusOr<std::string> TrainedModelToOnnx(const TrainedModel& model) {
  std::map<std::string, const TensorRead*> by_name;
  for (const TensorRead& tensor : model.weights.tensors) by_name[tensor.name] = &tensor;
  const auto weights = [&](const ParameterPlan& p) -> absl::StatusOr<std::span<const std::byte>> {
    return by_name.at(p.name)->bytes;
  };
  return ExportOnnx(model.plan, weights, OnnxOptionsOf(model.weights.metadata));
}

}  // namespace lockstep
