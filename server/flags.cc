// SPDX-License-Identifier: Apache-2.0
#include "server/flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <thread>

#include "absl/strings/match.h"

namespace lockstep {
namespace {

std::string FromHome(const char* variable, const char* below_home, const char* rest) {
  if (const char* base = std::getenv(variable); base != nullptr && base[0] == '/') return std::string(base) + rest;
  const char* home = std::getenv("HOME");
  return std::string(home == nullptr ? "/tmp" : home) + below_home + rest;
}

void FillDefaults(ServerFlags& flags) {
  if (flags.state_dir.empty()) flags.state_dir = FromHome("XDG_STATE_HOME", "/.local/state", "/lockstep");
  flags.state_dir = std::filesystem::absolute(flags.state_dir).lexically_normal().string();
  if (flags.data_roots.empty()) {
    const char* root = std::getenv("LOCKSTEP_DATA_DIR");
    if (root != nullptr && root[0] != '\0') flags.data_roots.push_back(root);
    flags.data_roots.push_back(FromHome("XDG_CACHE_HOME", "/.cache", "/lockstep"));
  }
  // The workers run in another folder.
  for (std::string* path : {&flags.scratch_root, &flags.failpoints}) {
    if (!path->empty()) *path = std::filesystem::absolute(*path).lexically_normal().string();
  }
  for (std::string& root : flags.data_roots) root = std::filesystem::absolute(root).lexically_normal().string();
  // CPU ranks may share a core, and four small ones are of use on any machine.
  if (flags.slots == 0) flags.slots = std::max(4, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

bool IsLocalAddress(const std::string& address) {
  if (absl::StartsWith(address, "unix:")) return true;
  const std::string host = address.substr(0, address.rfind(':'));
  return host == "localhost" || host == "[::1]" || absl::StartsWith(host, "127.");
}

ParsedFlags ParseFlags(int argc, const char* const* argv) {
  ParsedFlags parsed;
  ServerFlags& flags = parsed.flags;
  CLI::App app{"lockstepd: the Lockstep coordinator"};
  app.set_version_flag("--version", "lockstepd " LOCKSTEP_VERSION);
  app.add_option("--listen", flags.listen, "gRPC address: host:port (port 0: any free one) or unix:/path")
      ->capture_default_str();
  app.add_option("--http", flags.http, "address of the live page and /metrics: host:port")->capture_default_str();
  app.add_option("--worker-listen", flags.worker_listen,
                 "address at which workers connect: host:port, with a port that stays the same over restarts, or "
                 "unix:/path (default: a unix socket in the state folder)");
  app.add_option("--state-dir", flags.state_dir,
                 "folder of the database and of the jobs' results "
                 "(default ~/.local/state/lockstep)");
  app.add_option("--data-root", flags.data_roots,
                 "folder in which dataset paths are looked up; may be repeated "
                 "(default $LOCKSTEP_DATA_DIR, then ~/.cache/lockstep)");
  app.add_option("--slots", flags.slots,
                 "workers that may run at the same time (default: the number of cores, at "
                 "least 4, since CPU workers may share a core)")
      ->check(CLI::Range(1, 10'000));
  app.add_option("--ready-file", flags.ready_file,
                 "written once serving: {\"grpc\": ..., \"http\": ..., \"pid\": ...}");
  app.add_option("--parent", flags.parent, "process that started this one: stop when it has died, however it died")
      ->check(CLI::PositiveNumber);
  app.add_flag("--insecure", flags.insecure, "listen beyond this machine although nothing is encrypted");
  app.add_option("--mpirun", flags.mpirun, "absolute path of mpirun (default: from PATH)");
  app.add_option("--shim", flags.shim, "absolute path of lockstep-shim (default: beside lockstepd)");
  app.add_option("--worker", flags.worker, "absolute path of lockstep-worker (default: beside lockstepd)");
  app.add_option("--scratch-root", flags.scratch_root,
                 "folder of the workers' shared memory, best on a tmpfs "
                 "(default /dev/shm, or /tmp where that is missing or small)");
  app.add_option("--failpoints", flags.failpoints,
                 "file of places where this program and the workers are to fail; for tests");
  app.add_flag("--production", flags.production, "refuse --failpoints and --insecure");
  app.add_option("--log-level", flags.log_level, "debug, info, warn or error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream out, problem;
    const int code = app.exit(error, out, problem);
    parsed.done = true;
    parsed.exit_code = code == 0 ? 0 : 2;
    parsed.message = code == 0 ? out.str() : "lockstepd: " + problem.str();
    return parsed;
  }
  FillDefaults(flags);
  if (flags.production && (flags.insecure || !flags.failpoints.empty())) {
    parsed.done = true;
    parsed.exit_code = 2;
    parsed.message = std::string("lockstepd: ") + (flags.insecure ? "--insecure" : "--failpoints") +
                     " is refused with --production: leave out one of them\n";
    return parsed;
  }
  for (const auto& [name, address] : {std::pair("--listen", flags.listen), std::pair("--http", flags.http),
                                      std::pair("--worker-listen", flags.worker_listen)}) {
    if (address.empty() || IsLocalAddress(address) || flags.insecure) continue;
    parsed.done = true;
    parsed.exit_code = 2;
    parsed.message = std::string("lockstepd: ") + name + "=" + address +
                     " is reachable from other machines and nothing is encrypted or authenticated: use 127.0.0.1 or a "
                     "unix socket, or pass --insecure if the network is trusted\n";
  }
  return parsed;
}

}  // namespace lockstep
