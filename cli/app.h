// SPDX-License-Identifier: Apache-2.0
// The command line itself.
#pragma once

namespace lockstep::cli {

// Reads the arguments, runs the command and returns the exit status.
int Main(int argc, char** argv);

}  // namespace lockstep::cli
