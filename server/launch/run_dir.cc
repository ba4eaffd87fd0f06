// SPDX-License-Identifier: Apache-2.0
#include "server/launch/run_dir.h"

#include <fcntl.h>
#include <unistd.h>

// The header of glibc 2.36 says nothing of C++.
extern "C" {
#include <sys/pidfd.h>
}

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status_macros.h"
#include "server/launch/process.h"

namespace lockstep::launch {
namespace {

using nlohmann::json;

absl::StatusOr<json> ReadJson(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot open"));
  std::string text(4096, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(file.gcount());
  json value = json::parse(text, nullptr, false);
  if (!value.is_object()) return absl::DataLossError(absl::StrCat(path, ": not a JSON object"));
  return value;
}

int64_t Number(const json& value, const char* key) {
  const auto it = value.find(key);
  return it != value.end() && it->is_number_integer() ? it->get<int64_t>() : 0;
}

std::string Text(const json& value, const char* key) {
  const auto it = value.find(key);
  return it != value.end() && it->is_string() ? it->get<std::string>() : "";
}

// Room for any report: four numbers with their names.
constexpr size_t kExitBytes = 256;

absl::Status WriteAndSync(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return absl::PermissionDeniedError(absl::StrCat(path, ": cannot create: ", std::strerror(errno)));
  const auto size = static_cast<ssize_t>(text.size());
  const bool written = write(fd, text.data(), text.size()) == size && ftruncate(fd, size) == 0 && fsync(fd) == 0;
  const int cause = errno;
  close(fd);
  if (written) return absl::OkStatus();
  unlink(path.c_str());
  return absl::ResourceExhaustedError(absl::StrCat(path, ": cannot write: ", std::strerror(cause)));
}

absl::Status Rename(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  const int cause = errno;
  unlink(from.c_str());
  return absl::ResourceExhaustedError(absl::StrCat(to, ": cannot write: ", std::strerror(cause)));
}

}  // namespace

absl::Status WriteFileAtomically(const std::string& path, const std::string& text) {
  const std::string temporary = absl::StrCat(path, ".", getpid(), ".tmp");
  LOCKSTEP_RETURN_IF_ERROR(WriteAndSync(temporary, text));
  return Rename(temporary, path);
}

absl::Status WriteShimIdentity(const std::string& run_dir, const ShimIdentity& identity) {
  const json value{{"pid", identity.pid},
                   {"start_time", identity.start_time},
                   {"boot_id", identity.boot_id},
                   {"generation", identity.generation},
                   {"scratch_dir", identity.scratch_dir}};
  const std::string path = run_dir + "/shim.json";
  const std::string temporary = absl::StrCat(path, ".", getpid(), ".tmp");
  LOCKSTEP_RETURN_IF_ERROR(WriteAndSync(temporary, value.dump() + "\n"));
  // A link is refused where a rename would replace.
  const int error = link(temporary.c_str(), path.c_str()) == 0 ? 0 : errno;
  unlink(temporary.c_str());
  if (error == EEXIST) return absl::AlreadyExistsError(absl::StrCat(path, ": exists"));
  if (error != 0) return absl::ResourceExhaustedError(absl::StrCat(path, ": cannot write: ", std::strerror(error)));
  return absl::OkStatus();
}

absl::StatusOr<ShimIdentity> ReadShimIdentity(const std::string& run_dir) {
  LOCKSTEP_ASSIGN_OR_RETURN(const json value, ReadJson(run_dir + "/shim.json"));
  ShimIdentity identity;
  identity.pid = static_cast<pid_t>(Number(value, "pid"));
  identity.start_time = Number(value, "start_time");
  identity.boot_id = Text(value, "boot_id");
  identity.generation = Number(value, "generation");
  identity.scratch_dir = Text(value, "scratch_dir");
  return identity;
}

absl::Status ReserveGroupExit(const std::string& run_dir) {
  return WriteAndSync(run_dir + "/exit.json.part", std::string(kExitBytes, ' '));
}

absl::Status WriteGroupExit(const std::string& run_dir, int64_t generation, const core::GroupExit& exit) {
  const json value{{"generation", generation},
                   {"exit_code", exit.exit_code},
                   {"signal", exit.signal},
                   {"killed", exit.killed ? 1 : 0}};
  std::string text = value.dump();
  text.resize(kExitBytes - 1, ' ');
  // Over the spaces that are there: that takes no room.
  LOCKSTEP_RETURN_IF_ERROR(WriteAndSync(run_dir + "/exit.json.part", text + "\n"));
  return Rename(run_dir + "/exit.json.part", run_dir + "/exit.json");
}

absl::StatusOr<core::GroupExit> ReadGroupExit(const std::string& run_dir) {
  LOCKSTEP_ASSIGN_OR_RETURN(const json value, ReadJson(run_dir + "/exit.json"));
  core::GroupExit exit;
  exit.exit_code = static_cast<int>(Number(value, "exit_code"));
  exit.signal = static_cast<int>(Number(value, "signal"));
  exit.killed = Number(value, "killed") != 0;
  exit.last_output = LastOutputLine(run_dir);
  return exit;
}

std::string LastOutputLine(const std::string& run_dir) {
  std::ifstream file(run_dir + "/output.log", std::ios::binary | std::ios::ate);
  if (!file) return "";
  const std::streamoff size = file.tellg();
  const std::streamoff start = size > 8192 ? size - 8192 : 0;
  file.seekg(start);
  std::string line, last;
  while (std::getline(file, line)) {
    std::string clean;
    for (const char c : line) clean += (c >= ' ' && c <= '~') ? c : ' ';
    const std::string stripped(absl::StripAsciiWhitespace(clean));
    // mpirun frames its own messages in dashes; what they frame says more.
    if (stripped.find_first_not_of("-* ") != std::string::npos) last = stripped.substr(0, 300);
  }
  return last;
}

std::string GroupMark(const std::string& run_dir) { return "LOCKSTEP_RUN_DIR=" + run_dir; }

int OpenShim(const ShimIdentity& identity) {
  // Earlier versions wrote no boot.
  if (identity.pid <= 0 || (!identity.boot_id.empty() && identity.boot_id != BootId())) return -1;
  const int pidfd = pidfd_open(identity.pid, 0);
  if (pidfd < 0) return -1;
  // The start time is read after the pidfd is open, so that both speak of the same process.
  if (identity.start_time != 0 && StartTimeOf(identity.pid) == identity.start_time) return pidfd;
  close(pidfd);
  return -1;
}

}  // namespace lockstep::launch
