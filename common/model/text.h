// SPDX-License-Identifier: Apache-2.0
// Wording of messages about names that people wrote.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace lockstep {

// The text in quotes, unprintable bytes escaped, cut at 60 characters.
std::string Quoted(absl::string_view text);
// "; did you mean \"relu\"?" where one of `known` is close to `word`, else "".
std::string DidYouMean(absl::string_view word, const std::vector<std::string>& known);
// 13002 as "13,002".
std::string WithThousands(int64_t number);
// True where `text` is well-formed UTF-8.
bool IsUtf8(absl::string_view text);

}  // namespace lockstep
