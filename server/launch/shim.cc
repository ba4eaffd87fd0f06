// SPDX-License-Identifier: Apache-2.0
#include "server/launch/shim.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <system_error>

#include "server/launch/process.h"
#include "server/launch/run_dir.h"

namespace lockstep::launch {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kAskAgain{100};

// How the command ended, once it has.
struct Ended {
  bool done = false;
  int exit_code = 0;
  int signal = 0;
};

// Reaps whatever has ended. False: no child is left.
bool Reap(pid_t command, Ended* ended) {
  while (true) {
    int status = 0;
    const pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid == 0) return true;
    if (pid < 0) return errno != ECHILD;
    if (pid != command) continue;
    ended->done = true;
    ended->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    ended->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }
}

void SignalAll(int signal) {
  for (const pid_t pid : DescendantsOf(getpid())) kill(pid, signal);
}

// Waits at most `milliseconds` for one of `signals`; 0 where none came.
int AwaitSignal(const sigset_t& signals, int milliseconds) {
  const timespec limit{milliseconds / 1000, (milliseconds % 1000) * 1'000'000L};
  const int signal = sigtimedwait(&signals, nullptr, &limit);
  return signal > 0 ? signal : 0;
}

// SIGKILL again and again until no descendant is left: one may fork while it is being killed.
void KillGroup(const sigset_t& signals, pid_t command, Ended* ended) {
  while (Reap(command, ended)) {
    SignalAll(SIGKILL);
    AwaitSignal(signals, 5);
  }
}

// Asks the workers to save and end. mpirun is left alone: it would forward the signal late and then kill.
void AskWorkers(pid_t command) {
  for (const pid_t pid : DescendantsOf(command)) kill(pid, SIGTERM);
}

// Waits for the command's end. True: it, or what it left, is to be killed.
bool AwaitEnd(const ShimOptions& options, const sigset_t& signals, pid_t command, Ended* ended) {
  auto deadline = SteadyClock::time_point::max();
  while (Reap(command, ended) && !ended->done) {
    const auto left = deadline - SteadyClock::now();
    if (left <= SteadyClock::duration::zero()) return true;
    // Asked again and again: mpirun may start a worker late, and one that it has forked but that is not yet its own
    // program has mpirun's handler, which swallows the signal.
    const bool stopping = deadline != SteadyClock::time_point::max();
    if (stopping) AskWorkers(command);
    const auto wait = std::min<SteadyClock::duration>(left, stopping ? kAskAgain : std::chrono::milliseconds(60'000));
    const int signal =
        AwaitSignal(signals, static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(wait).count()));
    if (signal == SIGUSR1) return true;
    if (signal != SIGTERM && signal != SIGINT && signal != SIGHUP) continue;
    deadline = std::min(deadline, SteadyClock::now() + std::chrono::milliseconds(options.stop_grace_ms));
  }
  return false;
}

void Say(int log, std::initializer_list<const char*> parts) {
  for (const char* part : parts) {
    if (write(log, part, std::strlen(part)) < 0) return;
  }
}

// The child's side of the fork: only calls that are safe there. `alive` ends when the shim does.
[[noreturn]] void RunCommand(const std::vector<char*>& argv, const sigset_t& unblock, int log, int alive) {
  // Should the shim itself be killed, the command goes with it. Across the border of a pid namespace too: a
  // signal from outside reaches its first process.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // It may have been killed before the line above. Its id cannot tell, it looks like 0 from inside a namespace.
  pollfd shim{alive, POLLIN, 0};
  if (poll(&shim, 1, 0) != 0) _exit(127);
  sigprocmask(SIG_UNBLOCK, &unblock, nullptr);
  const int null = open("/dev/null", O_RDONLY);
  if (null >= 0) dup2(null, STDIN_FILENO);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  execv(argv[0], argv.data());
  Say(STDERR_FILENO, {"lockstep-shim: cannot run ", argv[0], ": ", std::strerror(errno), "\n"});
  _exit(127);
}

pid_t Start(const ShimOptions& options, const sigset_t& signals, int log) {
  std::vector<char*> argv;
  for (const std::string& argument : options.command) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  int alive[2];
  if (pipe2(alive, O_CLOEXEC) != 0) return -1;
  // Where it is allowed the command becomes the first process of a pid namespace: the kernel ends all of
  // it with its first process, whatever forks in it. No other fork may follow in this process.
  unshare(CLONE_NEWPID);
  const pid_t pid = fork();
  if (pid == 0) {
    close(alive[1]);
    RunCommand(argv, signals, log, alive[0]);
  }
  close(alive[0]);  // The other end stays open as long as this process lives.
  return pid;
}

// Makes what the group needs. Empty where all is well, else what is not.
std::string Prepare(const ShimOptions& options) {
  setenv("LOCKSTEP_RUN_DIR", options.run_dir.c_str(), 1);
  if (absl::Status status = ReserveGroupExit(options.run_dir); !status.ok()) return std::string(status.message());
  if (options.scratch_dir.empty()) return "";
  // The name can be guessed and the folder above it may be everybody's: another's folder must not be used.
  if (mkdir(options.scratch_dir.c_str(), 0700) != 0) {
    return options.scratch_dir + ": cannot create: " + std::strerror(errno);
  }
  setenv("TMPDIR", options.scratch_dir.c_str(), 1);
  return "";
}

}  // namespace

int RunShim(const ShimOptions& options) {
  setsid();  // Fails where the launcher did it already.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD}) sigaddset(&signals, signal);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  const ShimIdentity identity{getpid(), StartTimeOf(getpid()), BootId(), options.generation, options.scratch_dir};
  const std::string log_path = options.run_dir + "/output.log";
  const int log = open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  // Nothing is started where that cannot be written, or where a coordinator gave this shim up before it came so far.
  if (absl::Status status = WriteShimIdentity(options.run_dir, identity); !status.ok()) {
    Say(log, {"lockstep-shim: ", std::string(status.message()).c_str(), "\n"});
    return 1;
  }
  const std::string wrong = Prepare(options);
  Ended ended;
  bool killed = false;
  if (log < 0 || !wrong.empty()) {
    ended.exit_code = 126;
    Say(log, {"lockstep-shim: ", wrong.c_str(), "\n"});
  } else if (const pid_t command = Start(options, signals, log); command < 0) {
    ended.exit_code = 126;
    Say(log, {"lockstep-shim: cannot start a process: ", std::strerror(errno), "\n"});
  } else {
    killed = AwaitEnd(options, signals, command, &ended);
    KillGroup(signals, command, &ended);
  }
  std::error_code ignored;
  if (!options.scratch_dir.empty()) std::filesystem::remove_all(options.scratch_dir, ignored);
  const core::GroupExit exit{.exit_code = ended.exit_code, .signal = ended.signal, .killed = killed};
  return WriteGroupExit(options.run_dir, options.generation, exit).ok() ? 0 : 1;
}

}  // namespace lockstep::launch
