// SPDX-License-Identifier: Apache-2.0
// Runs another program and reads what it prints, line by line.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace lockstep::cli {

// The program of this name in the folder of this one.
std::string BesideThisProgram(const std::string& name);

// Starts `command` with nothing on its standard input; its standard error is this program's, or nobody's where it is
// `quiet`. `on_line` gets each line
// without its end; once it returns false the program is asked to stop (SIGINT), and no more lines are told. Waits for
// its end. Returns its exit status, 128 + the signal that ended it, or 127 where it cannot be started.
int RunChild(const std::vector<std::string>& command, const std::function<bool(const std::string&)>& on_line,
             bool quiet = false);

}  // namespace lockstep::cli
