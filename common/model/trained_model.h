// SPDX-License-Identifier: Apache-2.0
// A trained model outside of its job: its safetensors file says all that rebuilding it needs.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "common/formats/safetensors.h"
#include "common/model/model_plan.h"
#include "common/model/onnx/export_onnx.h"
#include "common/model/preprocessing.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// Where it is among the metadata of a model's safetensors file.
inline constexpr const char* kJobKey = "job";

// The parts of a spec that the model is made of: layers with the shape of a sample, loss, metrics and seed.
// JSON as in a job file; the same bytes wherever and however it was trained.
std::string ModelJobText(const lockstep::v1::JobSpec& spec, const Shape& sample);
// All metadata of a model that `spec` trains.
std::map<std::string, std::string> ModelMetadata(const lockstep::v1::JobSpec& spec, const Shape& sample,
                                                 const Preprocessing& preprocessing);

struct TrainedModel {
  // Of the safetensors file.
  std::string path;
  // See ModelJobText. Loss and metrics fit the plan, as the preprocessing does.
  lockstep::v1::JobSpec job;
  ModelPlan plan;
  Preprocessing preprocessing;
  // Has each parameter of the plan as F32 and in its shape; nothing else.
  SafetensorsFile weights;
};

// `path`: a model's safetensors file; or the folder of a job's results, or of a checkpoint, that has one.
// NOT_FOUND where there is none or where it says nothing of its layers; DATA_LOSS where it is damaged or does
// not fit together.
absl::StatusOr<TrainedModel> ReadTrainedModel(const std::string& path);
// The same of a file that was read; `path` is its name in messages.
absl::StatusOr<TrainedModel> TrainedModelOf(SafetensorsFile file, const std::string& path);
// The file that ReadTrainedModel reads.
absl::StatusOr<std::string> TrainedModelFile(const std::string& path);

// As ONNX, with what the safetensors file says of it. Errors as of ExportOnnx.
absl::StatusOr<std::string> TrainedModelToOnnx(const TrainedModel& model);
// What to say of a model with this metadata.
OnnxOptions OnnxOptionsOf(const std::map<std::string, std::string>& metadata);

}  // namespace lockstep
