// SPDX-License-Identifier: Apache-2.0
// What every command is given.
#pragma once

#include <chrono>
#include <iosfwd>
#include <string>

namespace lockstep::cli {

struct Options {
  // gRPC target: host:port or unix:path.
  std::string server;
  bool json = false;
  // Deadline of each unary call.
  std::chrono::milliseconds timeout{10'000};
  // Plain characters only, and no colour.
  bool ascii = false;
  // The terminal's width in columns; 0: the output is not a terminal.
  int width = 0;
  // Results.
  std::ostream* out = nullptr;
  // Progress and errors.
  std::ostream* err = nullptr;
};

// --server, else LOCKSTEP_SERVER, else the key `server` of the configuration file, else the default
// 127.0.0.1:7070. `config` empty: ~/.config/lockstep/config.yaml where there is one.
struct ServerChoice {
  std::string server;
  // Where the configuration file is unusable: what is wrong with it.
  std::string error;
};
ServerChoice ChooseServer(const std::string& flag, const std::string& config);

}  // namespace lockstep::cli
