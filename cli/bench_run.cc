// SPDX-License-Identifier: Apache-2.0
// `lockstep bench allreduce` and `start`: measured with real processes.
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "cli/bench.h"
#include "cli/child.h"
#include "cli/exit_codes.h"
#include "google/protobuf/util/json_util.h"
#include "lockstep/v1/events.pb.h"

namespace lockstep::cli {

namespace {

namespace fs = std::filesystem;

double ToSeconds(const google::protobuf::Timestamp& time) {
  return static_cast<double>(time.seconds()) + 1e-9 * time.nanos();
}

double Now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

// When the coordinator wrote that it is ready; 0: not known.
double ReadyTime(const fs::path& folder) {
  struct stat info {};
  if (stat((folder / "ready.json").c_str(), &info) != 0) return 0;
  return static_cast<double>(info.st_mtim.tv_sec) + 1e-9 * static_cast<double>(info.st_mtim.tv_nsec);
}

// Removes itself.
class TemporaryFolder {
 public:
  TemporaryFolder() : path_((fs::temp_directory_path() / "lockstep-bench-XXXXXX").native()) {
    if (mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// One start; empty where the job did not come to its first step.
StartPhases StartOnce(const BenchStartArguments& arguments) {
  const TemporaryFolder folder;
  if (folder.path().empty()) return {};
  std::vector<std::string> command{
      BesideThisProgram("lockstep"), "-o", "json", "run", arguments.file, "--out", folder.path()};
  for (const std::string& assignment : arguments.overrides) command.insert(command.end(), {"--set", assignment});
  StartPhases phases;
  const double began = Now();
  const auto reached = [&](const char* name, double at) { phases.emplace_back(name, at - began); };
  bool complete = false;
  RunChild(
      command,
      [&](const std::string& line) {
        v1::JobEvent event;
        google::protobuf::util::JsonParseOptions newer;
        newer.ignore_unknown_fields = true;
        if (!google::protobuf::util::JsonStringToMessage(line, &event, newer).ok()) return true;
        const double at = ToSeconds(event.time());
        if (event.state_changed().state() == v1::JOB_STATE_QUEUED) {
          reached("coordinator ready", ReadyTime(folder.path()));
          reached("job stored", at);
        }
        if (!event.steps_committed().has_start()) return true;
        const v1::StartTimes& start = event.steps_committed().start();
        reached("worker started", ToSeconds(start.worker_started()));
        reached("worker connected", ToSeconds(start.connected()));
        reached("MPI ready", ToSeconds(start.mpi_ready()));
        // Whichever came last was waited for.
        reached("data ready", std::max(ToSeconds(start.mpi_ready()), ToSeconds(start.data_ready())));
        reached("model ready", ToSeconds(start.model_ready()));
        reached("first step done", ToSeconds(start.first_step_done()));
        complete = true;
        return false;
      },
      /*quiet=*/true);
  return complete ? phases : StartPhases{};
}

}  // namespace

int BenchStart(const Options& options, const BenchStartArguments& arguments) {
  std::vector<StartPhases> runs;
  for (int run = 0; run < arguments.runs; ++run) {
    StartPhases phases = StartOnce(arguments);
    if (phases.empty()) {
      *options.err << "error: the job did not come to its first step; see what `lockstep run` says\n";
      return kJobFailed;
    }
    runs.push_back(std::move(phases));
  }
  const StartPhases medians = MedianStart(runs);
  *options.out << (options.json ? StartJson(medians, runs) : StartTable(medians, runs.size()));
  return kOk;
}

int BenchAllreduce(const Options& options, const BenchAllreduceArguments& arguments) {
  if (geteuid() == 0) {
    // As the coordinator starts them.
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  }
  const std::vector<std::string> command{"mpirun",
                                         "-np",
                                         absl::StrCat(arguments.ranks),
                                         "--oversubscribe",
                                         "--bind-to",
                                         "none",
                                         "--mca",
                                         "pml",
                                         "ob1",
                                         "--mca",
                                         "btl",
                                         "self,vader,tcp",
                                         "--mca",
                                         "mpi_yield_when_idle",
                                         "1",
                                         BesideThisProgram("lockstep-bench-allreduce"),
                                         "--json",
                                         absl::StrCat("--max-bytes=", arguments.max_bytes)};
  std::string json;
  const int code = RunChild(command, [&](const std::string& line) {
    absl::StrAppend(&json, line, "\n");
    return true;
  });
  const std::string table = AllreduceTable(json);
  if (code != 0 || table.empty()) {
    *options.err << "error: mpirun lockstep-bench-allreduce ended with status " << code
                 << "; both must be installed, mpirun in PATH and the program beside this one\n";
    return kUnavailable;
  }
  if (options.json) {
    *options.out << json;
  } else {
    *options.out << arguments.ranks << " ranks, medians of the slowest rank:\n" << table;
  }
  return kOk;
}

}  // namespace lockstep::cli
