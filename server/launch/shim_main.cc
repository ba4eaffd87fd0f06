// SPDX-License-Identifier: Apache-2.0
// lockstep-shim --run-dir=DIR --scratch-dir=DIR --generation=G -- COMMAND...
// Started by lockstepd; not for people.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "server/launch/shim.h"

int main(int argc, char** argv) {
  lockstep::launch::ShimOptions options;
  int i = 1;
  for (; i < argc && std::strcmp(argv[i], "--") != 0; ++i) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : argument.substr(equals + 1);
    if (name == "--run-dir") {
      options.run_dir = value;
    } else if (name == "--scratch-dir") {
      options.scratch_dir = value;
    } else if (name == "--generation") {
      options.generation = std::atoll(value.c_str());
    } else if (name == "--stop-grace-ms") {
      options.stop_grace_ms = std::atoi(value.c_str());
    } else {
      std::fprintf(stderr, "lockstep-shim: unknown option %s\n", argument.c_str());
      return 2;
    }
  }
  for (++i; i < argc; ++i) options.command.emplace_back(argv[i]);
  if (options.run_dir.empty() || options.command.empty() || options.command[0][0] != '/') {
    std::fprintf(stderr, "usage: lockstep-shim --run-dir=DIR [--scratch-dir=DIR] [--generation=G] -- /COMMAND ...\n");
    return 2;
  }
  return lockstep::launch::RunShim(options);
}
