// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/checkpoint_list.h"

#include <filesystem>
#include <set>
#include <system_error>

#include "absl/strings/str_join.h"
#include "common/status_macros.h"

namespace lockstep::rpc {

namespace fs = std::filesystem;

absl::StatusOr<std::vector<store::CheckpointRow>> PresentCheckpoints(const store::Store& store,
                                                                     const std::string& job_id) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<store::CheckpointRow> rows, store.Checkpoints(job_id));
  std::erase_if(rows, [](const store::CheckpointRow& row) {
    std::error_code ignored;
    return !fs::exists(row.path, ignored);
  });
  return rows;
}

int64_t BytesOnDisk(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    const uintmax_t bytes = fs::file_size(path, error);
    return error ? 0 : static_cast<int64_t>(bytes);
  }
  int64_t total = 0;
  for (fs::recursive_directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code gone;
    const uintmax_t bytes = entry->is_regular_file(gone) ? entry->file_size(gone) : 0;
    if (!gone) total += static_cast<int64_t>(bytes);
  }
  return total;
}

std::string StepsToStartFrom(const std::vector<store::CheckpointRow>& checkpoints, int64_t first_step) {
  std::set<int64_t> steps;
  if (first_step == 0) steps.insert(0);
  for (const store::CheckpointRow& row : checkpoints) {
    if (!row.final) steps.insert(row.step);
  }
  return steps.empty() ? "nowhere" : absl::StrJoin(steps, ", ");
}

}  // namespace lockstep::rpc
