// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace lockstep {

// What lockstepd can be told.
struct ServerFlags {
  // "host:port" or "unix:/path".
  std::string listen = "127.0.0.1:0";
  std::string http = "127.0.0.1:0";
  // Where workers connect, "host:port" or "unix:/path". Empty: a unix socket in the state folder.
  std::string worker_listen;
  std::string state_dir;
  std::vector<std::string> data_roots;
  int slots = 0;
  std::string ready_file;
  // Not 0: the process that started this one, whose end is a SIGTERM.
  int parent = 0;
  // Serve without encryption beyond this machine.
  bool insecure = false;
  // Empty: found in PATH and beside lockstepd.
  std::string mpirun;
  std::string shim;
  std::string worker;
  // Where workers keep their shared memory; empty: /dev/shm or /tmp.
  std::string scratch_root;
  // A file of failpoints to arm, for tests; empty: none.
  std::string failpoints;
  // Refuse what is for tests and trusted networks only.
  bool production = false;
  std::string log_level = "info";
};

struct ParsedFlags {
  ServerFlags flags;
  // Set where the program is to print something and end: usage, version or what is wrong.
  bool done = false;
  int exit_code = 0;
  std::string message;
};

// Fills in defaults: absolute paths, data roots from LOCKSTEP_DATA_DIR and ~/.cache/lockstep, slots.
ParsedFlags ParseFlags(int argc, const char* const* argv);

// True for loopback addresses and unix sockets.
bool IsLocalAddress(const std::string& address);

}  // namespace lockstep
