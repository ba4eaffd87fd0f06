// SPDX-License-Identifier: Apache-2.0
// Where data sets are, and the commands that bring them there.
#include <cstdlib>
#include <ostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "common/formats/fetch.h"
#include "common/formats/synthetic_digits.h"

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
