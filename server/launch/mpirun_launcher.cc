// SPDX-License-Identifier: Apache-2.0
#include "server/launch/mpirun_launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

// The header of glibc 2.36 says nothing of C++.
extern "C" {
#include <sys/pidfd.h>
}

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/status_macros.h"
#include "server/launch/process.h"
#include "server/launch/run_dir.h"

namespace lockstep::launch {
namespace {

constexpr const char* kPrefix = "/lockstep-";
constexpr const char* kSnapshot = "-snapshot";
// A container's /dev/shm has 64 MiB unless told otherwise; what does not fit there kills the workers.
constexpr uint64_t kMinScratchBytes = uint64_t{128} << 20;

bool IsProgram(const std::string& path) {
  return !path.empty() && path[0] == '/' && access(path.c_str(), X_OK) == 0 && !std::filesystem::is_directory(path);
}

std::string FindInPath(const std::string& name) {
  const char* path = std::getenv("PATH");
  const std::vector<std::string> folders = absl::StrSplit(path == nullptr ? "/usr/local/bin:/usr/bin:/bin" : path, ':');
  for (const std::string& folder : folders) {
    const std::string candidate = absl::StrCat(folder, "/", name);
    if (IsProgram(candidate)) return candidate;
  }
  return "";
}

std::string BesideThisProgram(const std::string& name) {
  char self[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", self, sizeof(self));
  if (size <= 0) return name;
  return (std::filesystem::path(std::string(self, size)).parent_path() / name).string();
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& s : strings) pointers.push_back(const_cast<char*>(s.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// Starts a program in a session of its own, with clean signals and nothing on its standard streams.
absl::StatusOr<pid_t> Spawn(const std::vector<std::string>& command, const std::vector<std::string>& environment) {
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  // The shim outlives this process: a socket or lock that it held open would bar the next coordinator.
  posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, command[0].c_str(), &files, &attributes, Pointers(command).data(),
                                Pointers(environment).data());
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) return absl::InternalError(absl::StrCat(command[0], ": cannot start: ", std::strerror(error)));
  return pid;
}

void SignalGroup(const std::string& run_dir, int signal) {
  for (const pid_t pid : ProcessesWith(GroupMark(run_dir))) kill(pid, signal);
}

// Kills whatever a shim started that is dead itself, and waits until it is gone.
void KillOrphans(const std::string& run_dir) {
  const std::string mark = GroupMark(run_dir);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  for (auto pids = ProcessesWith(mark); !pids.empty(); pids = ProcessesWith(mark)) {
    if (std::chrono::steady_clock::now() > deadline) return;
    for (const pid_t pid : pids) kill(pid, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

// A folder for this user alone.
absl::Status MakeSnapshotDir(const std::string& path) {
  struct stat info;
  if (mkdir(path.c_str(), 0700) == 0) return absl::OkStatus();
  if (errno != EEXIST)
    return absl::ResourceExhaustedError(absl::StrCat(path, ": cannot create: ", std::strerror(errno)));
  if (lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == geteuid()) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat(path, ": belongs to somebody else"));
}

}  // namespace

std::vector<std::string> MpirunCommand(const MpirunOptions& options, const LaunchRequest& request,
                                       const std::string& scratch_dir) {
  std::vector<std::string> command{
      options.mpirun, "-np", absl::StrCat(request.shape.workers), "--oversubscribe", "--bind-to", "none", "--mca",
      "pml", "ob1", "--mca", "btl", "self,vader,tcp", "--mca", "mpi_yield_when_idle", "1", "--mca",
      "orte_abort_on_non_zero_status", "1",
      // Shared memory of every kind lies in the one folder that the shim removes. Open MPI tries POSIX shared memory
      // at start-up unless another kind is named, and dying in that moment would leave a file in /dev/shm.
      "--mca", "shmem", "mmap", "--mca", "btl_vader_backing_directory", scratch_dir, "--mca",
      "osc_sm_backing_directory", scratch_dir, "--mca", "orte_tmpdir_base", scratch_dir, options.worker,
      absl::StrCat("--coordinator=", request.coordinator_address), absl::StrCat("--job=", request.job_id),
      absl::StrCat("--generation=", request.generation), absl::StrCat("--threads=", request.shape.threads_per_worker),
      absl::StrCat("--device=", request.device)};
  if (request.share_devices) command.push_back("--share-devices");
  if (!options.failpoints_file.empty()) command.push_back(absl::StrCat("--failpoints=", options.failpoints_file));
  return command;
}

absl::StatusOr<std::string> ChooseScratchRoot(const std::vector<std::string>& roots, uint64_t min_bytes) {
  std::string why;
  for (const std::string& root : roots) {
    struct statvfs space;
    std::string probe = root + "/lockstep-probe-XXXXXX";
    if (mkdtemp(probe.data()) == nullptr || statvfs(root.c_str(), &space) != 0) {
      absl::StrAppend(&why, why.empty() ? "" : "; ", root, ": ", std::strerror(errno));
      rmdir(probe.c_str());
      continue;
    }
    rmdir(probe.c_str());
    if (uint64_t{space.f_blocks} * space.f_frsize >= min_bytes || root == roots.back()) return root;
    absl::StrAppend(&why, why.empty() ? "" : "; ", root, ": has less than ", min_bytes >> 20, " MiB");
  }
  return absl::FailedPreconditionError(absl::StrCat("no folder for the workers' shared memory (", why,
                                                    "): pass --scratch-root=/a/folder, best on a tmpfs"));
}

std::vector<std::string> GroupEnvironment() {
  // LD_LIBRARY_PATH is the operator's, like PATH: CUDA installations need it.
  static constexpr const char* kNames[] = {
      "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TERM", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES",
      // Where CUDA's libraries are looked for.
      "CUDA_HOME", "CUDA_PATH", "CUDA_DEVICE_ORDER", "VIRTUAL_ENV", "CONDA_PREFIX"};
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('='));
    if (std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames) ||
        absl::StartsWith(name, "LOCKSTEP_") || absl::StartsWith(name, "NCCL_")) {
      environment.push_back(text);
    }
  }
  if (geteuid() == 0) {
    environment.push_back("OMPI_ALLOW_RUN_AS_ROOT=1");
    environment.push_back("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
  }
  return environment;
}

absl::StatusOr<std::unique_ptr<MpirunLauncher>> MpirunLauncher::Create(MpirunOptions options) {
  if (options.mpirun.empty()) options.mpirun = FindInPath("mpirun");
  if (options.shim.empty()) options.shim = BesideThisProgram("lockstep-shim");
  if (options.worker.empty()) options.worker = BesideThisProgram("lockstep-worker");
  if (!IsProgram(options.mpirun)) {
    return absl::FailedPreconditionError(
        absl::StrCat("mpirun was not found", options.mpirun.empty() ? " in PATH" : " at " + options.mpirun,
                     ": install Open MPI (openmpi-bin) or pass --mpirun=/path/to/mpirun"));
  }
  for (const auto& [path, flag] : {std::pair(options.shim, "--shim"), std::pair(options.worker, "--worker")}) {
    if (!IsProgram(path)) {
      return absl::FailedPreconditionError(absl::StrCat(path, " is not a program: pass ", flag, "=/absolute/path"));
    }
  }
  const bool chosen = !options.scratch_root.empty();
  LOCKSTEP_ASSIGN_OR_RETURN(options.scratch_root, chosen ? ChooseScratchRoot({options.scratch_root}, 0)
                                                         : ChooseScratchRoot({"/dev/shm", "/tmp"}, kMinScratchBytes));
  const int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd < 0) return absl::ResourceExhaustedError(absl::StrCat("eventfd: ", std::strerror(errno)));
  return std::unique_ptr<MpirunLauncher>(new MpirunLauncher(std::move(options), wake_fd));
}

MpirunLauncher::MpirunLauncher(MpirunOptions options, int wake_fd)
    : options_(std::move(options)), wake_fd_(wake_fd), watcher_([this] { Watch(); }) {}

MpirunLauncher::~MpirunLauncher() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  Wake();
  watcher_.join();
  for (auto& [pidfd, group] : groups_) close(pidfd);
  close(wake_fd_);
}

absl::Status MpirunLauncher::Launch(const LaunchRequest& request, OnExit on_exit) {
  LOCKSTEP_RETURN_IF_ERROR(HitFailpoint(options_.failpoints, "coordinator.launch"));
  DropSnapshots(request.job_id, request.keep_snapshot);
  LOCKSTEP_RETURN_IF_ERROR(MakeSnapshotDir(SnapshotDir(request.job_id)));
  Group group;
  group.job_id = request.job_id;
  group.generation = request.generation;
  group.run_dir = request.run_dir;
  group.scratch_dir = ScratchDir(request.job_id, request.generation);
  group.on_exit = std::move(on_exit);
  std::vector<std::string> command{options_.shim, absl::StrCat("--run-dir=", request.run_dir),
                                   absl::StrCat("--scratch-dir=", group.scratch_dir),
                                   absl::StrCat("--generation=", request.generation), "--"};
  for (std::string& argument : MpirunCommand(options_, request, group.scratch_dir)) {
    command.push_back(std::move(argument));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(group.pid, Spawn(command, GroupEnvironment()));
  HitFailpoint(options_.failpoints, "coordinator.launched").IgnoreError();
  // The shim is this process's child and not yet waited for, so its id cannot have been reused.
  group.pidfd = pidfd_open(group.pid, 0);
  if (group.pidfd < 0) {
    const int cause = errno;
    kill(group.pid, SIGUSR1);
    waitpid(group.pid, nullptr, 0);
    return absl::ResourceExhaustedError(absl::StrCat("pidfd_open: ", std::strerror(cause)));
  }
  group.start_time = StartTimeOf(group.pid);
  Add(std::move(group));
  return absl::OkStatus();
}

void MpirunLauncher::Adopt(const LaunchRequest& request, OnExit on_exit) {
  Group group;
  group.job_id = request.job_id;
  group.generation = request.generation;
  group.run_dir = request.run_dir;
  group.scratch_dir = ScratchDir(request.job_id, request.generation);
  group.on_exit = std::move(on_exit);
  group.child = false;
  // A shim that was started but has not written its name yet finds this one, and starts nothing.
  const ShimIdentity nobody{.generation = request.generation};
  WriteShimIdentity(request.run_dir, nobody).IgnoreError();
  if (const auto identity = ReadShimIdentity(request.run_dir); identity.ok()) {
    group.pid = identity->pid;
    group.start_time = identity->start_time;
    group.pidfd = OpenShim(*identity);
    // It was made where that coordinator said, which may have been told otherwise than this one.
    if (!identity->scratch_dir.empty()) group.scratch_dir = identity->scratch_dir;
  }
  if (group.pidfd < 0) return Finish(group);
  Add(std::move(group));
}

void MpirunLauncher::Add(Group group) {
  {
    const std::lock_guard lock(mutex_);
    groups_.emplace(group.pidfd, std::move(group));
  }
  Wake();
}

std::string MpirunLauncher::ScratchDir(const std::string& job_id, int64_t generation) const {
  return absl::StrCat(options_.scratch_root, kPrefix, job_id, "-", generation);
}

std::string MpirunLauncher::SnapshotDir(const std::string& job_id) const {
  return absl::StrCat(options_.scratch_root, kPrefix, job_id, kSnapshot);
}

std::string MpirunLauncher::SnapshotPath(const std::string& job_id, int64_t generation) const {
  return absl::StrCat(SnapshotDir(job_id), "/", generation);
}

void MpirunLauncher::DropSnapshots(const std::string& job_id, int64_t keep_generation) {
  std::error_code ignored;
  if (keep_generation == 0) {
    std::filesystem::remove_all(SnapshotDir(job_id), ignored);
    return;
  }
  for (const auto& entry : std::filesystem::directory_iterator(SnapshotDir(job_id), ignored)) {
    if (entry.path().filename() != absl::StrCat(keep_generation)) std::filesystem::remove(entry.path(), ignored);
  }
}

void MpirunLauncher::Sweep(const std::function<bool(const std::string&, int64_t)>& is_leftover) {
  std::error_code ignored;
  std::vector<std::filesystem::path> leftovers;
  for (const auto& entry : std::filesystem::directory_iterator(options_.scratch_root, ignored)) {
    const std::string name = absl::StrCat("/", entry.path().filename().string());
    const size_t dash = name.rfind('-');
    if (!absl::StartsWith(name, kPrefix) || dash < std::strlen(kPrefix)) continue;
    const std::string job_id = name.substr(std::strlen(kPrefix), dash - std::strlen(kPrefix));
    int64_t generation = 0;
    if (name.substr(dash) != kSnapshot && !absl::SimpleAtoi(name.substr(dash + 1), &generation)) continue;
    if (is_leftover(job_id, generation)) leftovers.push_back(entry.path());
  }
  for (const auto& path : leftovers) std::filesystem::remove_all(path, ignored);
}

void MpirunLauncher::Kill(const std::string& job_id, int64_t generation) {
  {
    const std::lock_guard lock(mutex_);
    for (auto& [pidfd, group] : groups_) {
      if (group.job_id != job_id || group.generation != generation || group.kill_asked) continue;
      pidfd_send_signal(pidfd, SIGUSR1, nullptr, 0);
      group.kill_asked = true;
      group.kill_hard_at = std::chrono::steady_clock::now() + options_.shim_grace;
    }
  }
  Wake();
}

int MpirunLauncher::HardKillDue() {
  const auto now = std::chrono::steady_clock::now();
  int timeout = -1;
  for (auto& [pidfd, group] : groups_) {
    if (!group.kill_asked) continue;
    if (now >= group.kill_hard_at) {
      // An adopted shim is not this process's child: its id may be another's by now.
      if (StartTimeOf(group.pid) == group.start_time) {
        for (const pid_t pid : DescendantsOf(group.pid)) kill(pid, SIGKILL);
      }
      SignalGroup(group.run_dir, SIGKILL);
      pidfd_send_signal(pidfd, SIGKILL, nullptr, 0);
      group.kill_hard_at = now + std::chrono::seconds(1);
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(group.kill_hard_at - now).count();
    timeout = timeout < 0 ? static_cast<int>(left) : std::min(timeout, static_cast<int>(left));
  }
  return timeout;
}

void MpirunLauncher::Watch() {
  while (true) {
    std::vector<pollfd> waiting{{wake_fd_, POLLIN, 0}};
    int timeout;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      timeout = HardKillDue();
      for (const auto& [pidfd, group] : groups_) waiting.push_back({pidfd, POLLIN, 0});
    }
    if (poll(waiting.data(), waiting.size(), timeout) <= 0) continue;
    uint64_t count;
    if (waiting[0].revents != 0 && read(wake_fd_, &count, sizeof(count)) < 0) continue;
    for (size_t i = 1; i < waiting.size(); ++i) {
      if (waiting[i].revents == 0) continue;
      Group group;
      {
        const std::lock_guard lock(mutex_);
        if (stopping_) return;
        const auto it = groups_.find(waiting[i].fd);
        group = std::move(it->second);
        groups_.erase(it);
      }
      Finish(group);
    }
  }
}

void MpirunLauncher::Finish(const Group& group) {
  if (group.child) waitpid(group.pid, nullptr, 0);
  if (group.pidfd >= 0) close(group.pidfd);
  auto exit = ReadGroupExit(group.run_dir);
  if (!exit.ok()) {
    // The shim was killed: do what it could not.
    KillOrphans(group.run_dir);
    std::error_code ignored;
    std::filesystem::remove_all(group.scratch_dir, ignored);
    exit = core::GroupExit{.exit_code = 1, .reported = false, .last_output = LastOutputLine(group.run_dir)};
  }
  group.on_exit(*exit);
}

void MpirunLauncher::Wake() {
  const uint64_t one = 1;
  if (write(wake_fd_, &one, sizeof(one)) < 0) return;  // Full means that a wake-up is due anyway.
}

}  // namespace lockstep::launch
