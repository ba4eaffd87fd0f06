// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/result_files.h"

#include <algorithm>
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

// Longer than any line.
constexpr std::streamoff kTail = 1 << 16;

struct LastLine {
  // Of the event in the last whole line; 0 where there is none that can be read.
  int64_t sequence = 0;
  // Bytes up to the end of this line.
  uintmax_t end = 0;
};

LastLine ReadLastLine(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return {};
  const std::streamoff size = file.tellg();
  const std::streamoff from = std::max<std::streamoff>(0, size - kTail);
  std::string tail(static_cast<size_t>(size - from), '\0');
  file.seekg(from);
  if (!file.read(tail.data(), size - from)) return {};
  const size_t end = tail.rfind('\n');
  if (end == std::string::npos || end == 0) return {};
  const size_t begin = tail.rfind('\n', end - 1);
  if (begin == std::string::npos && from > 0) return {};
  const size_t first = begin == std::string::npos ? 0 : begin + 1;
  lockstep::v1::JobEvent event;
  if (!google::protobuf::util::JsonStringToMessage(tail.substr(first, end - first), &event).ok()) return {};
  return {event.sequence(), static_cast<uintmax_t>(from) + end + 1};
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

absl::Status ResultFiles::WriteAfter(const std::string& job_id, int64_t sequence, std::ofstream& file) const {
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<store::EventRow> rows, store_->Events(job_id, sequence, 1000));
    if (rows.empty()) return absl::OkStatus();
    for (const store::EventRow& row : rows) {
      lockstep::v1::JobEvent event;
      if (event.ParseFromString(row.body) && IsMetric(event)) file << ToJson(event) << '\n';
      sequence = row.sequence;
    }
  }
}

absl::Status ResultFiles::Mend(const std::string& job_id) {
  open_.erase(job_id);
  const std::string path = OutputDir(job_id) + "/metrics.jsonl";
  const LastLine last = ReadLastLine(path);
  if (last.sequence == 0) return Rebuild(job_id);
  std::error_code error;
  std::filesystem::resize_file(path, last.end, error);
  std::ofstream file(path, std::ios::binary | std::ios::app);
  LOCKSTEP_RETURN_IF_ERROR(WriteAfter(job_id, last.sequence, file));
  file.close();
  return error || !file ? absl::ResourceExhaustedError(absl::StrCat(path, ": cannot write")) : absl::OkStatus();
}

absl::Status ResultFiles::Rebuild(const std::string& job_id) {
  open_.erase(job_id);
  const std::string path = OutputDir(job_id) + "/metrics.jsonl";
  const std::string temporary = path + ".tmp";
  {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    LOCKSTEP_RETURN_IF_ERROR(WriteAfter(job_id, 0, file));
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
