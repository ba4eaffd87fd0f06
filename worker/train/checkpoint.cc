// SPDX-License-Identifier: Apache-2.0
#include "worker/train/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/digest.h"
#include "common/formats/atomic_file.h"
#include "common/formats/safetensors.h"
#include "common/model/trained_model.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace lockstep {

namespace {

namespace fs = std::filesystem;

constexpr const char* kParameters = "parameters.safetensors";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kManifest = "manifest.json";
constexpr const char* kTrainer = "trainer";
constexpr const char* kPrefix = "step-";

// A tensor's name and where its bytes are: one entry per parameter of a flat array.
std::vector<TensorToWrite> Views(const std::vector<ParameterView>& views, const std::string& prefix,
                                 std::span<const std::byte> flat) {
  std::vector<TensorToWrite> tensors;
  for (const ParameterView& view : views) {
    tensors.push_back({prefix + view.name, "F32", view.shape,
                       flat.subspan(static_cast<size_t>(view.offset) * sizeof(float),
                                    static_cast<size_t>(view.shape.elements()) * sizeof(float))});
  }
  return tensors;
}

void ToHost(Device& device, Tensor t, std::vector<std::byte>& host) {
  host.resize(t.bytes());
  device.CopyToHost(host.data(), t.data, t.bytes());
}

absl::StatusOr<SavedFile> SaveParameters(const std::string& path, int64_t step, const std::vector<ParameterView>& views,
                                         std::span<const std::byte> flat, std::map<std::string, std::string> metadata) {
  metadata["format"] = "lockstep";
  metadata["step"] = absl::StrCat(step);
  LOCKSTEP_RETURN_IF_ERROR(WriteSafetensors(path, Views(views, "", flat), metadata));
  LOCKSTEP_ASSIGN_OR_RETURN(std::string sha256, Sha256File(path));
  std::error_code error;
  return SavedFile{path, std::move(sha256), static_cast<int64_t>(fs::file_size(path, error))};
}

absl::Status SaveState(const std::string& path, const CheckpointImage& image, const std::vector<ParameterView>& views) {
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, flat] : image.state) {
    std::ranges::move(Views(views, name + "/", flat), std::back_inserter(tensors));
  }
  std::vector<double> trainer(image.trainer.packed_size());
  image.trainer.Pack(trainer);
  tensors.push_back({kTrainer, "F64", Shape{static_cast<int64_t>(trainer.size())}, std::as_bytes(std::span(trainer))});
  return WriteSafetensors(path, tensors, {{"format", "lockstep"}, {"step", absl::StrCat(image.step)}});
}

absl::Status WriteManifest(const fs::path& folder, const CheckpointImage& image) {
  nlohmann::ordered_json manifest{
      {"format", "lockstep-checkpoint"}, {"version", 1}, {"step", image.step}, {"generation", image.generation}};
  if (image.score.has_value()) manifest["score"] = *image.score;
  for (const char* name : {kParameters, kOptimizer}) {
    LOCKSTEP_ASSIGN_OR_RETURN(const std::string sha256, Sha256File(folder / name));
    std::error_code error;
    manifest["files"][name] = {{"sha256", sha256}, {"bytes", fs::file_size(folder / name, error)}};
  }
  const std::string text = manifest.dump(2) + "\n";
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  return WriteFileAtomically(folder / kManifest, std::span(&bytes, 1));
}

nlohmann::json ReadManifest(const fs::path& folder) {
  std::ifstream stream(folder / kManifest);
  return nlohmann::json::parse(stream, nullptr, /*allow_exceptions=*/false);
}

int64_t StepOf(const fs::path& folder) {
  int64_t step = -1;
  const fs::path last = folder.filename();
  absl::string_view name(last.native());
  return absl::ConsumePrefix(&name, kPrefix) && absl::SimpleAtoi(name, &step) ? step : -1;
}

// Best effort: a folder that cannot be removed now is removed after a later save.
void Prune(const fs::path& parent, const KeepPolicy& keep) {
  std::vector<std::pair<int64_t, fs::path>> folders;
  std::error_code error;
  std::optional<double> best_score;
  fs::path best;
  for (const fs::directory_entry& entry : fs::directory_iterator(parent, error)) {
    const int64_t step = StepOf(entry.path());
    if (step < 0) continue;
    folders.push_back({step, entry.path()});
    const nlohmann::json manifest = ReadManifest(entry.path());
    if (!manifest.is_object() || !manifest.contains("score") || !manifest["score"].is_number()) continue;
    const double score = manifest["score"].get<double>();
    if (best_score.has_value() && score <= *best_score) continue;
    best_score = score;
    best = entry.path();
  }
  std::ranges::sort(folders, std::greater{});
  for (size_t i = static_cast<size_t>(std::max(1, keep.newest)); i < folders.size(); ++i) {
    if (folders[i].second != best) fs::remove_all(folders[i].second, error);
  }
}

absl::StatusOr<int64_t> VerifyManifest(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder / kManifest, error)) {
    return absl::NotFoundError(absl::StrCat((folder / kManifest).native(), ": there is none"));
  }
  const nlohmann::json manifest = ReadManifest(folder);
  if (!manifest.is_object() || !manifest.contains("step") || !manifest["step"].is_number_integer()) {
    return absl::DataLossError(absl::StrCat((folder / kManifest).native(), ": damaged"));
  }
  for (const char* name : {kParameters, kOptimizer}) {
    const auto entry = manifest.find("files");
    if (entry == manifest.end() || !entry->contains(name) || !(*entry)[name].contains("sha256")) {
      return absl::DataLossError(absl::StrCat((folder / kManifest).native(), ": does not list ", name));
    }
    LOCKSTEP_ASSIGN_OR_RETURN(const std::string sha256, Sha256File(folder / name));
    if ((*entry)[name]["sha256"] != sha256) {
      return absl::DataLossError(absl::StrCat((folder / name).native(), ": damaged: its SHA-256 is ", sha256,
                                              ", not the one in the manifest"));
    }
  }
  return manifest["step"].get<int64_t>();
}

// Copies the file's tensors named prefix + parameter into the flat array.
absl::Status Fill(const SafetensorsFile& file, const std::string& path, const std::string& prefix, Device& device,
                  const Model& model, Tensor flat) {
  std::map<std::string, const TensorRead*> by_name;
  for (const TensorRead& t : file.tensors) by_name[t.name] = &t;
  for (const ParameterView& view : model.parameter_views()) {
    const auto found = by_name.find(prefix + view.name);
    if (found == by_name.end() || found->second->dtype != "F32" || !(found->second->shape == view.shape)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": no tensor ", prefix, view.name, " of shape ", view.shape.ToString()));
    }
    // Checked all the same: every rank must find the same.
    if (flat.data == nullptr) continue;
    device.CopyFromHost(flat.as<float>() + view.offset, found->second->bytes.data(), found->second->bytes.size());
  }
  return absl::OkStatus();
}

}  // namespace

void CheckpointImage::Capture(Device& device, Model& model, Optimizer& optimizer) {
  ToHost(device, model.parameters(), parameters);
  const auto tensors = optimizer.State();
  state.resize(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    state[i].first = tensors[i].first;
    if (tensors[i].second.data != nullptr) ToHost(device, tensors[i].second, state[i].second);
  }
}

std::string CheckpointFolder(const std::string& output_dir, int64_t step) {
  return (fs::path(output_dir) / "checkpoints" / absl::StrCat(kPrefix, step)).native();
}

absl::StatusOr<SavedFile> SaveCheckpoint(const std::string& output_dir, const CheckpointImage& image,
                                         const std::vector<ParameterView>& views, const KeepPolicy& keep,
                                         Failpoints* failpoints) {
  const fs::path folder = CheckpointFolder(output_dir, image.step);
  const fs::path parent = folder.parent_path();
  // Groups that overlap for a moment must not write into each other's.
  const fs::path temporary = parent / absl::StrCat("tmp-", image.step, "-", image.generation);
  std::error_code error;
  fs::create_directories(parent, error);
  // What killed groups left half done.
  for (const fs::directory_entry& entry : fs::directory_iterator(parent, error)) {
    if (absl::StartsWith(entry.path().filename().native(), "tmp-")) fs::remove_all(entry.path(), error);
  }
  fs::create_directories(temporary, error);
  if (error) {
    return absl::UnavailableError(absl::StrCat("cannot create ", temporary.native(), ": ", error.message()));
  }
  LOCKSTEP_RETURN_IF_ERROR(HitFailpoint(failpoints, "checkpoint.begin"));
  LOCKSTEP_ASSIGN_OR_RETURN(
      SavedFile saved, SaveParameters(temporary / kParameters, image.step, views, image.parameters, image.metadata));
  LOCKSTEP_RETURN_IF_ERROR(HitFailpoint(failpoints, "checkpoint.parameters"));
  LOCKSTEP_RETURN_IF_ERROR(SaveState(temporary / kOptimizer, image, views));
  LOCKSTEP_RETURN_IF_ERROR(HitFailpoint(failpoints, "checkpoint.optimizer"));
  LOCKSTEP_RETURN_IF_ERROR(WriteManifest(temporary, image));
  LOCKSTEP_RETURN_IF_ERROR(HitFailpoint(failpoints, "checkpoint.manifest"));
  saved.path = folder.native();
  if (fs::exists(folder, error) && VerifyManifest(folder).ok()) {
    fs::remove_all(temporary, error);
    return saved;
  }
  // Only a damaged folder of the same step is ever in the way.
  if (fs::exists(folder, error)) {
    const fs::path damaged = parent / absl::StrCat("damaged-", image.step);
    fs::remove_all(damaged, error);
    fs::rename(folder, damaged, error);
  }
  fs::rename(temporary, folder, error);
  if (error) return absl::UnavailableError(absl::StrCat("cannot rename ", temporary.native(), ": ", error.message()));
  LOCKSTEP_RETURN_IF_ERROR(SyncFolder(parent));
  LOCKSTEP_RETURN_IF_ERROR(HitFailpoint(failpoints, "checkpoint.renamed"));
  Prune(parent, keep);
  return saved;
}

absl::StatusOr<int64_t> LoadCheckpoint(const std::string& folder, Device& device, Model& model, Optimizer& optimizer,
                                       TrainerState& trainer) {
  LOCKSTEP_ASSIGN_OR_RETURN(const int64_t step, VerifyManifest(folder));
  const std::string parameters = fs::path(folder) / kParameters;
  LOCKSTEP_ASSIGN_OR_RETURN(const SafetensorsFile weights, ReadSafetensors(parameters));
  LOCKSTEP_RETURN_IF_ERROR(Fill(weights, parameters, "", device, model, model.parameters()));
  const std::string state_path = fs::path(folder) / kOptimizer;
  LOCKSTEP_ASSIGN_OR_RETURN(const SafetensorsFile state, ReadSafetensors(state_path));
  for (const auto& [name, tensor] : optimizer.State()) {
    LOCKSTEP_RETURN_IF_ERROR(Fill(state, state_path, name + "/", device, model, tensor));
  }
  for (const TensorRead& t : state.tensors) {
    if (t.name != kTrainer || t.dtype != "F64") continue;
    // The file's bytes need not lie where a double may.
    std::vector<double> packed(t.bytes.size() / sizeof(double));
    std::memcpy(packed.data(), t.bytes.data(), packed.size() * sizeof(double));
    if (absl::Status status = trainer.Unpack(packed); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(state_path, ": ", status.message()));
    }
    return step;
  }
  return absl::InvalidArgumentError(absl::StrCat(state_path, ": no tensor ", kTrainer));
}

absl::StatusOr<SavedFile> SaveModel(const std::string& output_dir, int64_t step, Device& device, Model& model,
                                    const std::map<std::string, std::string>& metadata) {
  std::vector<std::byte> host;
  ToHost(device, model.parameters(), host);
  return SaveParameters(fs::path(output_dir) / "model.safetensors", step, model.parameter_views(), host, metadata);
}

absl::Status SaveOnnx(const std::string& output_dir, const ModelPlan& plan, Device& device, Model& model,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<std::byte> host;
  ToHost(device, model.parameters(), host);
  std::map<std::string, std::span<const std::byte>> tensors;
  for (const TensorToWrite& tensor : Views(model.parameter_views(), "", host)) tensors[tensor.name] = tensor.bytes;
  const auto weights = [&](const ParameterPlan& p) -> absl::StatusOr<std::span<const std::byte>> {
    return tensors.at(p.name);
  };
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string file, ExportOnnx(plan, weights, OnnxOptionsOf(metadata)));
  const std::span<const std::byte> bytes = std::as_bytes(std::span(file));
  return WriteFileAtomically(fs::path(output_dir) / "model.onnx", std::span(&bytes, 1));
}

}  // namespace lockstep
