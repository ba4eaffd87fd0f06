// SPDX-License-Identifier: Apache-2.0
// Worker groups under mpirun on this machine, each with a shim of its own.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "common/failpoints.h"
#include "server/launch/launcher.h"

namespace lockstep::launch {

struct MpirunOptions {
  // Absolute paths. Empty: mpirun from PATH, the others from beside this program.
  std::string mpirun;
  std::string shim;
  std::string worker;
  // Where scratch folders "lockstep-JOB-GENERATION" are made and snapshots kept: best in memory. Empty: /dev/shm,
  // or /tmp where that is missing or small.
  std::string scratch_root;
  // Passed on to the workers; empty: none.
  std::string failpoints_file;
  // Of this process, may be null; outlives the launcher. "coordinator.launch" is before a shim is started,
  // "coordinator.launched" after.
  Failpoints* failpoints = nullptr;
  // From the order to the shim until SIGKILL to it and its processes.
  std::chrono::milliseconds shim_grace{3'000};
};

class MpirunLauncher final : public Launcher {
 public:
  // FAILED_PRECONDITION where a program is missing or no scratch folder can be made, with what to do.
  static absl::StatusOr<std::unique_ptr<MpirunLauncher>> Create(MpirunOptions options);
  // Leaves the groups running: a later coordinator takes them up.
  ~MpirunLauncher() override;

  absl::Status Launch(const LaunchRequest& request, OnExit on_exit) override;
  void Adopt(const LaunchRequest& request, OnExit on_exit) override;
  void Kill(const std::string& job_id, int64_t generation) override;
  std::string SnapshotPath(const std::string& job_id, int64_t generation) const override;
  void DropSnapshots(const std::string& job_id, int64_t keep_generation) override;
  void Sweep(const std::function<bool(const std::string& job_id, int64_t generation)>& is_leftover) override;
  const std::string& scratch_root() const { return options_.scratch_root; }

 private:
  struct Group {
    std::string job_id;
    int64_t generation = 0;
    std::string run_dir;
    std::string scratch_dir;
    pid_t pid = 0;
    int64_t start_time = 0;
    int pidfd = -1;
    // False: adopted, so there is nothing to wait for but the descriptor.
    bool child = true;
    bool kill_asked = false;
    std::chrono::steady_clock::time_point kill_hard_at;
    OnExit on_exit;
  };

  MpirunLauncher(MpirunOptions options, int wake_fd);
  std::string ScratchDir(const std::string& job_id, int64_t generation) const;
  std::string SnapshotDir(const std::string& job_id) const;
  // The thread that waits on the shims' pidfds.
  void Watch();
  // Poll timeout until the next hard kill is due, after doing those that are. Holds mutex_.
  int HardKillDue();
  void Finish(const Group& group);
  void Add(Group group);
  void Wake();

  const MpirunOptions options_;
  const int wake_fd_;
  std::mutex mutex_;
  std::map<int, Group> groups_;  // By pidfd.
  bool stopping_ = false;
  std::thread watcher_;
};

// The first of `roots` where a folder can be made on a file system of at least `min_bytes` in all; the last may be of
// any size. Not the free bytes: what this very service keeps there must not change the answer from one start to the
// next.
absl::StatusOr<std::string> ChooseScratchRoot(const std::vector<std::string>& roots, uint64_t min_bytes);

// The command line for a group, and the only environment variables that it inherits; for tests.
std::vector<std::string> MpirunCommand(const MpirunOptions& options, const LaunchRequest& request,
                                       const std::string& scratch_dir);
std::vector<std::string> GroupEnvironment();

}  // namespace lockstep::launch
