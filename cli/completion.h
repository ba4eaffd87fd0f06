// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace lockstep::cli {

// A script for bash, or for zsh, made from the commands and options of `app`.
std::string CompletionScript(const CLI::App& app, bool zsh);

}  // namespace lockstep::cli
