// SPDX-License-Identifier: Apache-2.0
// lockstepd: flags, build the objects, serve until SIGTERM or SIGINT, stop.
#include <signal.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "server/daemon.h"
#include "server/flags.h"
#include "spdlog/sinks/stdout_color_sinks.h"
#include "spdlog/spdlog.h"

namespace {

// Drain, cancel what is left, and all of it within five seconds.
constexpr std::chrono::milliseconds kDrainLimit{4'300};

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "lockstepd: %s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const lockstep::ParsedFlags parsed = lockstep::ParseFlags(argc, argv);
  if (parsed.done) {
    std::fputs(parsed.message.c_str(), parsed.exit_code == 0 ? stdout : stderr);
    return parsed.exit_code;
  }
  spdlog::set_default_logger(spdlog::stderr_color_mt("lockstepd"));
  spdlog::set_level(spdlog::level::from_str(parsed.flags.log_level));
  // Blocked before any thread starts, so that only this one receives them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  auto daemon = lockstep::Daemon::Start(parsed.flags);
  if (!daemon.ok()) return Fail(daemon.status());
  spdlog::info("gRPC on {}, live page on http://{}, state in {}, {} slots", (*daemon)->grpc_address(),
               (*daemon)->http_address(), parsed.flags.state_dir, parsed.flags.slots);
  if (!parsed.flags.ready_file.empty()) {
    if (absl::Status status = lockstep::WriteReadyFile(parsed.flags.ready_file, **daemon); !status.ok()) {
      return Fail(status);
    }
  }
  int received = 0;
  sigwait(&signals, &received);
  spdlog::info("{}: stopping", received == SIGTERM ? "SIGTERM" : "SIGINT");
  (*daemon)->Stop(kDrainLimit);
  return 0;
}
