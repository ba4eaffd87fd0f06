// SPDX-License-Identifier: Apache-2.0
#include "cli/job_source.h"

#include <fstream>
#include <iostream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "cli/exit_codes.h"
#include "common/model/job_plan.h"
#include "yaml-cpp/yaml.h"

namespace lockstep::cli {

namespace {

constexpr size_t kMaxBytes = 1 << 20;

bool ReadText(const std::string& path, std::string* text, std::string* error) {
  std::ifstream file;
  std::istream* stream = &std::cin;
  if (path != "-") {
    file.open(path);
    stream = &file;
    if (!file) {
      *error = absl::StrCat("cannot open ", path);
      return false;
    }
  }
  // One byte past the limit tells that there is more.
  text->resize(kMaxBytes + 1);
  stream->read(text->data(), static_cast<std::streamsize>(text->size()));
  text->resize(static_cast<size_t>(stream->gcount()));
  return true;
}

void PrintViolations(const Options& options, const Violations& violations) {
  for (const Violation& v : violations.list()) *options.err << "  " << v.field << ": " << v.description << "\n";
  if (violations.count() > violations.list().size()) {
    *options.err << "  and " << violations.count() - violations.list().size() << " more\n";
  }
}

}  // namespace

bool Override(const std::string& assignment, std::string* text, std::string* error) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    *error = absl::StrCat("--set takes PATH=VALUE, for example training.epochs=1, not \"", assignment, "\"");
    return false;
  }
  const std::vector<std::string> keys = absl::StrSplit(assignment.substr(0, equals), '.');
  // The library reports by exceptions.
  try {
    YAML::Node root = YAML::Load(*text);
    YAML::Node node = root;
    for (size_t i = 0; i + 1 < keys.size(); ++i) node.reset(node[keys[i]]);
    node[keys.back()] = YAML::Load(assignment.substr(equals + 1));
    YAML::Emitter emitter;
    emitter << root;
    *text = emitter.c_str();
    return true;
  } catch (const std::exception& e) {
    *error = absl::StrCat("--set ", assignment, ": ", e.what());
    return false;
  }
}

int LoadJob(const Options& options, const std::string& path, const std::vector<std::string>& overrides,
            v1::JobSpec* spec) {
  std::string text, error;
  if (!ReadText(path, &text, &error)) {
    *options.err << "error: " << error << "\n";
    return kUsage;
  }
  // The file as it stands is checked first, so that places in messages are the file's own.
  Violations violations;
  *spec = ParseJobFile(text, path, violations);
  if (violations.empty() && !overrides.empty()) {
    for (const std::string& assignment : overrides) {
      if (!Override(assignment, &text, &error)) {
        *options.err << "error: " << error << "\n";
        return kUsage;
      }
    }
    *spec = ParseJobFile(text, absl::StrCat(path, " with --set"), violations);
  }
  if (violations.empty()) return kOk;
  *options.err << "error: " << path << " is not a valid job\n";
  PrintViolations(options, violations);
  return kUsage;
}

}  // namespace lockstep::cli
