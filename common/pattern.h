// SPDX-License-Identifier: Apache-2.0
// Patterns in names that people wrote.
#pragma once

#include <string_view>

namespace lockstep {

// True where all of `name` fits: * stands for any characters, ? for one.
bool MatchesPattern(std::string_view name, std::string_view pattern);

}  // namespace lockstep
