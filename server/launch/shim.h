// SPDX-License-Identifier: Apache-2.0
// The process between the coordinator and one worker group: it outlives the coordinator, kills the group
// for certain, leaves nothing behind, and writes down how the group ended.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep::launch {

struct ShimOptions {
  std::string run_dir;
  // Made at the start, must not exist then, and removed with all that is in it at the end. Empty: none.
  std::string scratch_dir;
  int64_t generation = 0;
  // Absolute path first.
  std::vector<std::string> command;
  // From the wish to stop until the group is killed.
  int stop_grace_ms = 4'000;
};

// Runs the group to its end. SIGTERM, SIGINT and SIGHUP pass a SIGTERM on to the workers, again and again until they
// have saved and ended; SIGUSR1 kills the group at once. Starts nothing where the run folder has a shim already. Must
// be called before any thread is started; the process becomes a session leader and a subreaper. Returns its exit code.
int RunShim(const ShimOptions& options);

}  // namespace lockstep::launch
