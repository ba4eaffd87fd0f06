// SPDX-License-Identifier: Apache-2.0
// What a job will be, before anything runs and without a server: summary, plan.
#include <algorithm>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/format.h"
#include "cli/job_source.h"
#include "common/model/job_plan.h"
#include "common/model/memory_plan.h"
#include "common/model/summary.h"
#include "nlohmann/json.hpp"

namespace lockstep::cli {

namespace {

struct CheckedJob {
  v1::JobSpec spec;
  JobPlan plan;
  // False: shapes are those of model.input_shape.
  bool data_at_hand = false;
};

// kOk, or the exit status after the errors were printed.
int CheckJob(const Options& options, const std::string& file, const std::vector<std::string>& overrides,
             CheckedJob& job) {
  if (const int code = LoadJob(options, file, overrides, &job.spec); code != kOk) return code;
  Violations unavailable, violations;
  const DatasetInfo dataset = ProbeDataset(job.spec.dataset(), DataRoots(), job.spec.seed(), unavailable);
  job.data_at_hand = unavailable.empty();
  job.plan = PlanJob(job.spec, job.data_at_hand ? &dataset : nullptr, violations);
  if (violations.empty()) return kOk;
  *options.err << "error: " << file << " is not a valid job\n";
  for (const Violation& v : violations.list()) *options.err << "  " << v.field << ": " << v.description << "\n";
  if (!job.data_at_hand) {
    for (const Violation& v : unavailable.list()) *options.err << "  " << v.field << ": " << v.description << "\n";
  }
  return kUsage;
}

std::string RanksText(int first, int last, int workers) {
  if (last - first + 1 == workers) return workers == 1 ? "rank 0" : absl::StrCat("each of ", workers, " ranks");
  return first == last ? absl::StrCat("rank ", first) : absl::StrCat("ranks ", first, " to ", last);
}

}  // namespace

int Summary(const Options& options, const std::string& file, const std::vector<std::string>& overrides) {
  CheckedJob job;
  if (const int code = CheckJob(options, file, overrides, job); code != kOk) return code;
  *options.out << ModelSummary(job.plan.model);
  return kOk;
}

std::string MemoryJson(const std::vector<MemoryPlan>& ranks) {
  nlohmann::ordered_json json;
  json["ranks"] = nlohmann::ordered_json::array();
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    nlohmann::ordered_json one{{"rank", rank}};
    for (const auto& [part, bytes] : MemoryParts(ranks[rank])) one[part + "_bytes"] = bytes;
    one["total_bytes"] = ranks[rank].total();
    json["ranks"].push_back(std::move(one));
  }
  return json.dump(2);
}

std::string MemoryTable(const std::vector<MemoryPlan>& ranks) {
  std::vector<std::vector<std::string>> rows{{"MEMORY"}};
  for (const auto& [part, bytes] : MemoryParts({})) rows.push_back({part});
  rows.push_back({"total"});
  // A column for neighbours that take the same.
  for (size_t first = 0; first < ranks.size();) {
    size_t last = first;
    while (last + 1 < ranks.size() && MemoryParts(ranks[last + 1]) == MemoryParts(ranks[first])) ++last;
    rows[0].push_back(RanksText(static_cast<int>(first), static_cast<int>(last), static_cast<int>(ranks.size())));
    const auto parts = MemoryParts(ranks[first]);
    for (size_t i = 0; i < parts.size(); ++i) rows[i + 1].push_back(BytesText(parts[i].second));
    rows.back().push_back(BytesText(ranks[first].total()));
    first = last + 1;
  }
  return Table(rows);
}

int PlanCommand(const Options& options, const std::string& file, const std::vector<std::string>& overrides) {
  CheckedJob job;
  if (const int code = CheckJob(options, file, overrides, job); code != kOk) return code;
  if (!job.data_at_hand) {
    job.plan.dataset.sample = job.plan.model.input;
    *options.err << "the data set is not at hand: data counts batches alone\n";
  }
  const int workers = std::max(1, job.spec.resources().workers());
  std::vector<MemoryPlan> ranks;
  for (int rank = 0; rank < workers; ++rank) ranks.push_back(PlanMemory(job.spec, job.plan, rank, workers));
  *options.out << (options.json ? MemoryJson(ranks) + "\n" : MemoryTable(ranks));
  return kOk;
}

}  // namespace lockstep::cli
