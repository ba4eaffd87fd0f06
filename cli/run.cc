// SPDX-License-Identifier: Apache-2.0
// `lockstep run`: a coordinator for one job.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/job_source.h"
#include "cli/watch.h"
#include "nlohmann/json.hpp"

namespace lockstep::cli {

namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kStartTimeout{15'000};
constexpr milliseconds kStopTimeout{10'000};
constexpr milliseconds kPoll{2};

// A lockstepd beside this program. Stops it at the end of its life.
class Coordinator {
 public:
  ~Coordinator() { Stop(); }

  bool Start(const fs::path& folder, const std::vector<std::string>& data_roots, int slots, std::string* error) {
    const fs::path program = fs::read_symlink("/proc/self/exe").parent_path() / "lockstepd";
    const fs::path ready = folder / "ready.json";
    log_ = folder / "coordinator.log";
    std::error_code ignored;
    fs::remove(ready, ignored);
    std::vector<std::string> arguments{
        program, "--listen",     "127.0.0.1:0", "--http",   "127.0.0.1:0",         "--state-dir",
        folder,  "--ready-file", ready,         "--parent", absl::StrCat(getpid())};
    if (slots > 0) arguments.insert(arguments.end(), {"--slots", absl::StrCat(slots)});
    for (const std::string& root : data_roots) arguments.insert(arguments.end(), {"--data-root", root});
    if (!Spawn(arguments, error)) return false;
    const auto deadline = steady_clock::now() + kStartTimeout;
    while (!fs::exists(ready, ignored)) {
      if (waitpid(pid_, nullptr, WNOHANG) == pid_) {
        pid_ = -1;
        *error = absl::StrCat("the coordinator did not start:\n", LogTail());
        return false;
      }
      if (steady_clock::now() > deadline) {
        *error = absl::StrCat("the coordinator was not ready in time; see ", log_);
        return false;
      }
      // Short against the coordinator's own start, so that little is lost.
      poll(nullptr, 0, static_cast<int>(kPoll.count()));
    }
    std::ifstream stream(ready);
    const nlohmann::json addresses = nlohmann::json::parse(stream, nullptr, /*allow_exceptions=*/false);
    if (!addresses.is_object() || !addresses.contains("grpc") || !addresses["grpc"].is_string()) {
      *error = absl::StrCat(ready.native(), " is not what a coordinator writes; is lockstepd of another version?");
      return false;
    }
    grpc_ = addresses["grpc"];
    http_ = addresses.value("http", "");
    return true;
  }

  const std::string& grpc() const { return grpc_; }
  const std::string& http() const { return http_; }

  void Stop() {
    if (pid_ < 0) return;
    kill(pid_, SIGTERM);
    const auto deadline = steady_clock::now() + kStopTimeout;
    while (waitpid(pid_, nullptr, WNOHANG) == 0) {
      if (steady_clock::now() > deadline) kill(pid_, SIGKILL);
      poll(nullptr, 0, static_cast<int>(kPoll.count()));
    }
    pid_ = -1;
  }

 private:
  bool Spawn(std::vector<std::string>& arguments, std::string* error) {
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    // A group of its own: Ctrl-C is for this program, which then ends the job in good order.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    const int code = posix_spawn(&pid_, argv[0], &actions, &attributes, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (code == 0) return true;
    pid_ = -1;
    *error = absl::StrCat("cannot start ", arguments[0], ": ", strerror(code));
    return false;
  }

  std::string LogTail() const {
    std::ifstream stream(log_);
    std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    constexpr size_t kTail = 2000;
    return text.size() <= kTail ? text : text.substr(text.size() - kTail);
  }

  pid_t pid_ = -1;
  std::string log_;
  std::string grpc_;
  std::string http_;
};

// ./lockstep-runs/<name>-<n> with the first n that is free.
fs::path FreeFolder(const std::string& name) {
  for (int n = 1;; ++n) {
    fs::path folder = fs::path("lockstep-runs") / absl::StrCat(name.empty() ? "job" : name, "-", n);
    std::error_code error;
    if (!fs::exists(folder, error)) return folder;
  }
}

}  // namespace

int Run(Options options, const RunArguments& arguments, const std::atomic<bool>* interrupted) {
  v1::SubmitJobRequest request;
  if (const int code = LoadJob(options, arguments.file, arguments.overrides, request.mutable_spec()); code != kOk) {
    return code;
  }
  std::error_code failed;
  const fs::path folder =
      fs::absolute(arguments.folder.empty() ? FreeFolder(request.spec().name()) : fs::path(arguments.folder), failed);
  fs::create_directories(folder, failed);
  if (failed) {
    *options.err << "error: cannot create " << folder.native() << ": " << failed.message() << "\n";
    return kUsage;
  }
  Coordinator coordinator;
  std::string error;
  // Gang scheduling needs a slot for each worker, however few cores there are.
  const int slots = std::max(arguments.slots, request.spec().resources().workers());
  if (!coordinator.Start(folder, DataRoots(), std::min(slots, 1024), &error)) {
    *options.err << "error: " << error << "\n";
    return kUnavailable;
  }
  options.server = coordinator.grpc();
  if (!options.json && !coordinator.http().empty()) *options.err << "live page: http://" << coordinator.http() << "/\n";
  Client client(options);
  v1::SubmitJobResponse response;
  const grpc::Status status = client.Call(&v1::TrainingService::Stub::SubmitJob, request, &response);
  if (!status.ok()) return ReportError(options, status);
  const std::string id = response.job().job_id();
  const int code = Watch(options, client, id, {.interrupted = interrupted});
  if (code != kInterrupted) return code;
  *options.err << "interrupted: cancelling the job\n";
  v1::CancelJobRequest cancel;
  cancel.set_job_id(id);
  cancel.set_reason("interrupted");
  v1::CancelJobResponse cancelled;
  (void)client.Call(&v1::TrainingService::Stub::CancelJob, cancel, &cancelled);
  (void)Watch(options, client, id, {.summary = false});
  return kInterrupted;
}

}  // namespace lockstep::cli
