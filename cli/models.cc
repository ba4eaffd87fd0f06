// SPDX-License-Identifier: Apache-2.0
#include "cli/models.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <ostream>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/format.h"
#include "cli/job_source.h"
#include "cli/predictions.h"
#include "common/formats/atomic_file.h"
#include "common/model/job_plan.h"
#include "common/model/trained_model.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "worker/device/named_device.h"
#include "worker/infer/evaluate.h"

namespace lockstep::cli {

namespace {

namespace fs = std::filesystem;

int Fail(const Options& options, const absl::Status& status) {
  *options.err << "error: " << status.message() << "\n";
  return absl::IsInvalidArgument(status) || absl::IsPermissionDenied(status) ? kUsage : ExitCode(status.code());
}

// A path as it is; else what the coordinator says where the job of this id keeps its results. Returns the exit
// status.
int FindModel(const Options& options, const std::string& model, std::string* path) {
  std::error_code error;
  *path = model;
  if (fs::exists(model, error)) return kOk;
  if (model.find('/') != std::string::npos || absl::EndsWith(model, ".safetensors")) {
    return Fail(options, absl::NotFoundError(absl::StrCat(model, ": no such file or folder")));
  }
  Client client(options);
  v1::GetJobRequest request;
  request.set_job_id(model);
  v1::GetJobResponse response;
  const grpc::Status status = client.Call(&v1::TrainingService::Stub::GetJob, request, &response);
  if (!status.ok()) {
    *options.err << model << ": neither a file nor a folder, so it was looked up as a job\n";
    return ReportError(options, status);
  }
  *path = response.job().output_dir();
  if (fs::exists(*path, error)) return kOk;
  return Fail(options, absl::NotFoundError(absl::StrCat("the results of ", model, " are in ", *path,
                                                        " on the coordinator's machine, not on this one")));
}

int LoadModel(const Options& options, const std::string& name, TrainedModel* model) {
  std::string path;
  if (const int code = FindModel(options, name, &path); code != kOk) return code;
  absl::StatusOr<TrainedModel> read = ReadTrainedModel(path);
  if (!read.ok()) return Fail(options, read.status());
  *model = *std::move(read);
  return kOk;
}

// The spec of the job that the model is of: beside it, or two folders above a checkpoint. False where there is none.
bool ReadSpecBeside(const TrainedModel& model, v1::JobSpec* spec) {
  const fs::path folder = fs::absolute(model.path).parent_path();
  for (const fs::path& path : {folder / "spec.json", folder.parent_path().parent_path() / "spec.json"}) {
    std::error_code error;
    // The limit of a job file.
    if (!fs::is_regular_file(path, error) || fs::file_size(path, error) > (1 << 20)) continue;
    std::ifstream file(path);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    Violations violations;
    *spec = ParseJobFile(text, path.native(), violations);
    if (violations.empty()) return true;
  }
  return false;
}

// Where the job computed, as far as this machine can; the bits depend on it.
absl::StatusOr<std::unique_ptr<Device>> DeviceFor(const TrainedModel& model, const std::string& asked, int threads) {
  v1::JobSpec spec;
  ReadSpecBeside(model, &spec);
  if (threads == 0) threads = std::max(1, spec.resources().threads_per_worker());
  DeviceName name;
  if (!asked.empty()) {
    LOCKSTEP_ASSIGN_OR_RETURN(name, ParseDeviceName(asked));
  } else if (spec.resources().device() == v1::DEVICE_CPU) {
    name.wish = DeviceWish::kCpu;
  }
  LOCKSTEP_ASSIGN_OR_RETURN(ChosenDevice chosen, OpenNamedDevice(name, threads));
  return std::move(chosen.device);
}

absl::Status WriteWhole(const std::string& path, std::initializer_list<std::string_view> parts) {
  std::vector<std::span<const std::byte>> bytes;
  for (const std::string_view part : parts) bytes.push_back(std::as_bytes(std::span(part)));
  return WriteFileAtomically(path, bytes);
}

void PrintEvaluation(const Options& options, const Evaluation& evaluation) {
  std::vector<const MetricResult*> reported;
  for (const MetricResult& metric : evaluation.scores.metrics) {
    if (metric.reported) reported.push_back(&metric);
  }
  if (options.json) {
    nlohmann::ordered_json json{{"samples", evaluation.samples}, {"loss", evaluation.scores.loss}};
    json["metrics"] = nlohmann::ordered_json::array();
    for (const MetricResult* metric : reported) {
      nlohmann::ordered_json entry{{"name", metric->name}, {"value", metric->value}};
      if (!metric->matrix.empty()) entry["matrix"] = metric->matrix;
      json["metrics"].push_back(std::move(entry));
    }
    *options.out << json.dump(2) << "\n";
    return;
  }
  std::vector<std::vector<std::string>> rows{{"FIGURE", "VALUE"}};
  rows.push_back({"samples", absl::StrCat(evaluation.samples)});
  rows.push_back({"loss", absl::StrFormat("%.6g", evaluation.scores.loss)});
  for (const MetricResult* metric : reported) {
    if (metric->matrix.empty()) rows.push_back({metric->name, absl::StrFormat("%.6g", metric->value)});
  }
  *options.out << Table(rows);
  for (const MetricResult* metric : reported) {
    if (metric->matrix.empty()) continue;
    const auto side = static_cast<size_t>(std::llround(std::sqrt(static_cast<double>(metric->matrix.size()))));
    *options.out << "\n" << metric->name << " (a row for each label, a column for each prediction)\n";
    for (size_t i = 0; i < metric->matrix.size(); ++i) {
      *options.out << absl::StrFormat("%7.0f", metric->matrix[i]) << ((i + 1) % side == 0 ? "\n" : "");
    }
  }
}

// The dataset section of a job file, or of a file with nothing else; without one, the job's own.
int ReadDataset(const Options& options, const TrainedModel& model, const std::string& data, v1::JobSpec* spec) {
  if (!data.empty()) {
    if (const int code = LoadJob(options, data, {}, spec); code != kOk) return code;
    if (spec->has_dataset()) return kOk;
    return Fail(options, absl::InvalidArgumentError(absl::StrCat(data, ": has no dataset section, as a job file's")));
  }
  if (ReadSpecBeside(model, spec)) return kOk;
  return Fail(options, absl::InvalidArgumentError(
                           absl::StrCat(model.path,
                                        ": there is no spec.json beside it, so its data set is not known; give a file "
                                        "with a dataset section, or a CSV file")));
}

}  // namespace

int Export(const Options& options, const ExportArguments& arguments) {
  TrainedModel model;
  if (const int code = LoadModel(options, arguments.model, &model); code != kOk) return code;
  const std::string out = arguments.out.empty() ? absl::StrCat("model.", arguments.format) : arguments.out;
  absl::Status status;
  if (arguments.format == "onnx") {
    const absl::StatusOr<std::string> file = TrainedModelToOnnx(model);
    status = file.ok() ? WriteWhole(out, {*file}) : file.status();
  } else {
    const std::vector<std::byte>& bytes = model.weights.storage;
    const std::span<const std::byte> part(bytes);
    status = WriteFileAtomically(out, std::span(&part, 1));
  }
  if (!status.ok()) return Fail(options, status);
  *options.out << out << "\n";
  return kOk;
}

int Eval(const Options& options, const EvalArguments& arguments) {
  TrainedModel model;
  if (const int code = LoadModel(options, arguments.model, &model); code != kOk) return code;
  const auto device = DeviceFor(model, arguments.device, arguments.threads);
  if (!device.ok()) return Fail(options, device.status());
  absl::StatusOr<Evaluation> evaluation;
  if (absl::EndsWith(arguments.data, ".csv")) {
    evaluation = EvaluateOnTable(model, arguments.data, device->get());
  } else {
    v1::JobSpec spec;
    if (const int code = ReadDataset(options, model, arguments.data, &spec); code != kOk) return code;
    EvaluateOptions evaluate{.data_roots = arguments.data_roots, .training_part = arguments.training_part};
    for (const std::string& root : DataRoots()) evaluate.data_roots.push_back(root);
    evaluation = EvaluateOnDataset(model, spec.dataset(), evaluate, device->get());
  }
  if (!evaluation.ok()) return Fail(options, evaluation.status());
  PrintEvaluation(options, *evaluation);
  return kOk;
}

int PredictFile(const Options& options, const PredictArguments& arguments) {
  const bool array = absl::EndsWith(arguments.out, ".npy");
  if (!arguments.out.empty() && !array && !absl::EndsWith(arguments.out, ".csv")) {
    return Fail(options, absl::InvalidArgumentError(absl::StrCat("--out ", arguments.out, ": ends in .csv or .npy")));
  }
  TrainedModel model;
  if (const int code = LoadModel(options, arguments.model, &model); code != kOk) return code;
  const auto device = DeviceFor(model, arguments.device, arguments.threads);
  if (!device.ok()) return Fail(options, device.status());
  const PredictionText text(model, {.top = arguments.top, .raw = arguments.raw, .json = options.json});
  // A file is written whole, or not at all.
  const bool to_output = arguments.out.empty();
  std::string written = array ? "" : text.Header();
  int64_t samples = 0;
  const auto sink = [&](std::span<const float> output) {
    ++samples;
    if (array) {
      written.append(reinterpret_cast<const char*>(output.data()), output.size_bytes());
    } else {
      written += text.Row(output);
    }
    if (to_output) *options.out << std::exchange(written, "");
    return absl::OkStatus();
  };
  absl::Status status = Predict(model, arguments.file, device->get(), sink);
  if (status.ok() && to_output) *options.out << written << std::flush;
  if (status.ok() && !to_output) {
    std::vector<int64_t> shape{samples};
    shape.insert(shape.end(), model.plan.output.dims().begin(), model.plan.output.dims().end());
    status = WriteWhole(arguments.out, {array ? NpyHead(shape) : "", written});
  }
  return status.ok() ? kOk : Fail(options, status);
}

}  // namespace lockstep::cli
