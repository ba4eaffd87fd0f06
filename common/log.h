// SPDX-License-Identifier: Apache-2.0
// What the programs say to whoever runs them: one line for each call, with time and level. Any thread may call. The
// library behind it formats by templates that take a compiler seconds, so that only log.cc includes it.
#pragma once

#include <string>
#include <string_view>

namespace lockstep {

// From here on lines bear `name`, go to the standard error, and are left out below `level`: debug, info, warn or error;
// any other word leaves out all. Call it before other threads are started. Without it lines go to the standard output,
// from `info` on.
void LogToStandardError(const std::string& name, const std::string& level);

void LogInfo(std::string_view line);
void LogWarning(std::string_view line);
void LogError(std::string_view line);

}  // namespace lockstep
