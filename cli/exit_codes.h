// SPDX-License-Identifier: Apache-2.0
// What the command line's exit status means. The same list is in `lockstep --help`.
#pragma once

#include "absl/status/status.h"

namespace lockstep::cli {

inline constexpr int kOk = 0;
inline constexpr int kJobFailed = 1;
// audit, diff, verify: something differs or is missing.
inline constexpr int kDiffers = 1;
// Wrong arguments, or a specification that was refused.
inline constexpr int kUsage = 2;
inline constexpr int kJobCancelled = 3;
inline constexpr int kNotFound = 4;
// No answer from the server, or not in time.
inline constexpr int kUnavailable = 5;
// The job is not in a state for this, or the server refuses it now.
inline constexpr int kConflict = 6;
inline constexpr int kInterrupted = 130;

// The exit status for an error of a call.
int ExitCode(absl::StatusCode code);

}  // namespace lockstep::cli
