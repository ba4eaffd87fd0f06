// SPDX-License-Identifier: Apache-2.0
// Commands that need no server: summary, data.
#include <cstdlib>
#include <ostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/job_source.h"
#include "common/formats/fetch.h"
#include "common/formats/synthetic_digits.h"
#include "common/model/job_plan.h"
#include "common/model/summary.h"

namespace lockstep::cli {

namespace {

std::string CacheFolder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0') {
    return absl::StrCat(cache, "/lockstep");
  }
  const char* home = std::getenv("HOME");
  return home == nullptr ? "" : absl::StrCat(home, "/.cache/lockstep");
}

int Report(const Options& options, const absl::Status& status, const std::string& folder) {
  if (!status.ok()) {
    *options.err << "error: " << status.message() << "\n";
    return absl::IsInvalidArgument(status) ? kUsage : kUnavailable;
  }
  *options.out << folder << "\n";
  return kOk;
}

// --dir, or the data set's own folder in the cache.
std::string Target(const std::string& folder, const std::string& what) {
  return folder.empty() ? absl::StrCat(CacheFolder(), "/", what) : folder;
}

}  // namespace

std::vector<std::string> DataRoots() {
  std::vector<std::string> roots;
  if (const char* root = std::getenv("LOCKSTEP_DATA_DIR"); root != nullptr && *root != '\0') roots.push_back(root);
  if (const std::string cache = CacheFolder(); !cache.empty()) roots.push_back(cache);
  return roots;
}

int Summary(const Options& options, const std::string& file, const std::vector<std::string>& overrides) {
  v1::JobSpec spec;
  if (const int code = LoadJob(options, file, overrides, &spec); code != kOk) return code;
  Violations unavailable, violations;
  const DatasetInfo dataset = ProbeDataset(spec.dataset(), DataRoots(), spec.seed(), unavailable);
  const bool at_hand = unavailable.empty();
  const JobPlan plan = PlanJob(spec, at_hand ? &dataset : nullptr, violations);
  if (violations.empty()) {
    *options.out << ModelSummary(plan.model);
    return kOk;
  }
  *options.err << "error: " << file << " is not a valid job\n";
  for (const Violation& v : violations.list()) *options.err << "  " << v.field << ": " << v.description << "\n";
  if (!at_hand) {
    for (const Violation& v : unavailable.list()) *options.err << "  " << v.field << ": " << v.description << "\n";
  }
  return kUsage;
}

int DataFetch(const Options& options, const std::string& what, const std::string& folder) {
  if (what != "mnist") {
    *options.err << "error: unknown data set \"" << what << "\"; known: mnist\n";
    return kUsage;
  }
  const std::string target = Target(folder, what);
  std::string announced;
  const auto progress = [&](const std::string& name, int64_t, int64_t total) {
    if (std::exchange(announced, name) != name) *options.err << "fetching " << name << ", " << total << " bytes\n";
  };
  return Report(options, FetchMnist(target, progress), target);
}

int DataGenerate(const Options& options, const std::string& what, const std::string& folder, int64_t train,
                 int64_t test, uint64_t seed) {
  if (what != "synthetic-digits") {
    *options.err << "error: unknown generator \"" << what << "\"; known: synthetic-digits\n";
    return kUsage;
  }
  const std::string target = Target(folder, what);
  return Report(options, WriteSyntheticDigits(target, train, test, seed), target);
}

}  // namespace lockstep::cli
