// SPDX-License-Identifier: Apache-2.0
// lockstepd: flags, build the objects, serve until SIGTERM or SIGINT, stop.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/log.h"
#include "server/daemon.h"
#include "server/flags.h"

namespace {

// Drain, cancel what is left, and all of it within five seconds.
constexpr std::chrono::milliseconds kDrainLimit{4'300};

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "lockstepd: %s\n", std::string(status.message()).c_str());
  return 1;
}

// SIGTERM when the parent ends. False: it has ended already.
bool FollowParent(int parent) { return prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == parent; }

}  // namespace

int main(int argc, char** argv) {
  const lockstep::ParsedFlags parsed = lockstep::ParseFlags(argc, argv);
  if (parsed.done) {
    std::fputs(parsed.message.c_str(), parsed.exit_code == 0 ? stdout : stderr);
    return parsed.exit_code;
  }
  lockstep::LogToStandardError("lockstepd", parsed.flags.log_level);
  // Blocked before any thread starts, so that only this one receives them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  if (parsed.flags.parent != 0 && !FollowParent(parsed.flags.parent)) {
    return Fail(absl::FailedPreconditionError(
        absl::StrCat("--parent ", parsed.flags.parent, " is not the process that started this one, or has died")));
  }

  auto daemon = lockstep::Daemon::Start(parsed.flags);
  if (!daemon.ok()) return Fail(daemon.status());
  lockstep::LogInfo(absl::StrCat("gRPC on ", (*daemon)->grpc_address(), ", live page on http://",
                                 (*daemon)->http_address(), ", state in ", parsed.flags.state_dir, ", ",
                                 parsed.flags.slots, " slots"));
  if (!parsed.flags.ready_file.empty()) {
    if (absl::Status status = lockstep::WriteReadyFile(parsed.flags.ready_file, **daemon); !status.ok()) {
      return Fail(status);
    }
  }
  int received = 0;
  sigwait(&signals, &received);
  lockstep::LogInfo(absl::StrCat(received == SIGTERM ? "SIGTERM" : "SIGINT", ": stopping"));
  (*daemon)->Stop(kDrainLimit);
  return 0;
}
