// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/result_files.h"

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "google/protobuf/util/json_util.h"
#include "server/launch/run_dir.h"
#include "server/rpc/convert.h"

namespace lockstep::rpc {
namespace {

bool IsMetric(const lockstep::v1::JobEvent& event) {
  return event.has_steps_committed() || event.has_epoch_completed();
}

}  // namespace

std::string ResultFiles::OutputDir(const std::string& job_id) const { return absl::StrCat(jobs_dir_, "/", job_id); }

absl::Status ResultFiles::Begin(const std::string& job_id, const lockstep::v1::JobSpec& spec) {
  std::error_code error;
  std::filesystem::create_directories(OutputDir(job_id), error);
  if (error) {
    return absl::ResourceExhaustedError(absl::StrCat(OutputDir(job_id), ": cannot create: ", error.message()));
  }
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(spec, &text, options).ok()) text = "{}\n";
  return launch::WriteFileAtomically(OutputDir(job_id) + "/spec.json", text);
}

absl::Status ResultFiles::Rebuild(const std::string& job_id) {
  open_.erase(job_id);
  const std::string path = OutputDir(job_id) + "/metrics.jsonl";
  const std::string temporary = path + ".tmp";
  {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    int64_t after = 0;
    while (true) {
      LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<store::EventRow> rows, store_->Events(job_id, after, 1000));
      if (rows.empty()) break;
      for (const store::EventRow& row : rows) {
        lockstep::v1::JobEvent event;
        if (event.ParseFromString(row.body) && IsMetric(event)) file << ToJson(event) << '\n';
        after = row.sequence;
      }
    }
    file.close();
    if (!file) return absl::ResourceExhaustedError(absl::StrCat(temporary, ": cannot write"));
  }
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  return error ? absl::ResourceExhaustedError(absl::StrCat(path, ": ", error.message())) : absl::OkStatus();
}

void ResultFiles::Append(const std::string& job_id, const lockstep::v1::JobEvent& event) {
  if (!IsMetric(event)) return;
  const auto [file, is_new] = open_.try_emplace(job_id);
  if (is_new) file->second.open(OutputDir(job_id) + "/metrics.jsonl", std::ios::binary | std::ios::app);
  file->second << ToJson(event) << '\n' << std::flush;
}

void ResultFiles::End(const std::string& job_id) {
  const auto file = open_.find(job_id);
  if (file == open_.end()) return;
  const bool good = file->second.good();
  open_.erase(file);
  if (!good) Rebuild(job_id).IgnoreError();
}

}  // namespace lockstep::rpc
