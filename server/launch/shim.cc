// SPDX-License-Identifier: Apache-2.0
#include "server/launch/shim.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "server/launch/process.h"
#include "server/launch/run_dir.h"

namespace lockstep::launch {
namespace {

using SteadyClock = std::chrono::steady_clock;

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
    const auto wait = std::min<SteadyClock::duration>(left, std::chrono::minutes(1));
    const int signal =
        AwaitSignal(signals, static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(wait).count()));
    if (signal == SIGUSR1) return true;
    if (signal != SIGTERM && signal != SIGINT && signal != SIGHUP) continue;
    AskWorkers(command);
    deadline = std::min(deadline, SteadyClock::now() + std::chrono::milliseconds(options.stop_grace_ms));
  }
  return false;
}

// The child's side of the fork: only calls that are safe there.
[[noreturn]] void RunCommand(const std::vector<char*>& argv, const sigset_t& unblock, int log) {
  // Should the shim itself be killed, the command goes with it, and its children with their own death signal.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigprocmask(SIG_UNBLOCK, &unblock, nullptr);
  const int null = open("/dev/null", O_RDONLY);
  if (null >= 0) dup2(null, STDIN_FILENO);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  execv(argv[0], argv.data());
  const char* why = std::strerror(errno);
  for (const char* part : {"lockstep-shim: cannot run ", static_cast<const char*>(argv[0]), ": ", why, "\n"}) {
    if (write(STDERR_FILENO, part, std::strlen(part)) < 0) break;
  }
  _exit(127);
}

pid_t Start(const ShimOptions& options, const sigset_t& signals, int log) {
  std::vector<char*> argv;
  for (const std::string& argument : options.command) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  // Where it is allowed the command becomes the first process of a pid namespace: the kernel ends all of
  // it with its first process, whatever forks in it.
  unshare(CLONE_NEWPID);
  const pid_t pid = fork();
  if (pid == 0) RunCommand(argv, signals, log);
  return pid;
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

  std::error_code error;
  if (!options.scratch_dir.empty()) {
    std::filesystem::create_directories(options.scratch_dir, error);
    setenv("TMPDIR", options.scratch_dir.c_str(), 1);
  }
  const std::string log_path = options.run_dir + "/output.log";
  const int log = open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  const ShimIdentity identity{getpid(), StartTimeOf(getpid()), options.generation, options.scratch_dir};
  Ended ended;
  bool killed = false;
  if (error || log < 0 || !WriteShimIdentity(options.run_dir, identity).ok()) {
    ended.exit_code = 126;
  } else if (const pid_t command = Start(options, signals, log); command < 0) {
    ended.exit_code = 126;
  } else {
    killed = AwaitEnd(options, signals, command, &ended);
    KillGroup(signals, command, &ended);
  }
  if (!options.scratch_dir.empty()) std::filesystem::remove_all(options.scratch_dir, error);
  const core::GroupExit exit{.exit_code = ended.exit_code, .signal = ended.signal, .killed = killed};
  return WriteGroupExit(options.run_dir, options.generation, exit).ok() ? 0 : 1;
}

}  // namespace lockstep::launch
