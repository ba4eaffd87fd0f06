// SPDX-License-Identifier: Apache-2.0
#include "cli/options.h"

#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "yaml-cpp/yaml.h"

namespace lockstep::cli {

namespace {

constexpr const char* kDefaultServer = "127.0.0.1:7070";

std::string DefaultConfig() {
  if (const char* base = std::getenv("XDG_CONFIG_HOME"); base != nullptr && *base != '\0') {
    return absl::StrCat(base, "/lockstep/config.yaml");
  }
  const char* home = std::getenv("HOME");
  return home == nullptr ? "" : absl::StrCat(home, "/.config/lockstep/config.yaml");
}

}  // namespace

ServerChoice ChooseServer(const std::string& flag, const std::string& config) {
  if (!flag.empty()) return {flag, ""};
  if (const char* server = std::getenv("LOCKSTEP_SERVER"); server != nullptr && *server != '\0') return {server, ""};
  const std::string path = config.empty() ? DefaultConfig() : config;
  std::error_code error;
  if (path.empty() || (config.empty() && !std::filesystem::exists(path, error))) return {kDefaultServer, ""};
  // The library reports by exceptions.
  try {
    const YAML::Node root = YAML::LoadFile(path);
    for (const auto& entry : root) {
      if (entry.first.as<std::string>() != "server") {
        return {"", absl::StrCat(path, ": unknown key \"", entry.first.as<std::string>(), "\"; known: server")};
      }
      return {entry.second.as<std::string>(), ""};
    }
  } catch (const std::exception& e) {
    return {"", absl::StrCat(path, ": ", e.what())};
  }
  return {kDefaultServer, ""};
}

}  // namespace lockstep::cli
