// SPDX-License-Identifier: Apache-2.0
// What the coordinator must know of a failure besides its message, kept with the status.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/cord.h"

namespace lockstep {

inline constexpr const char* kPermanent = "lockstep/permanent";
inline constexpr const char* kResumeUnusable = "lockstep/resume-unusable";

// The next launch would fail in the same way.
inline absl::Status Permanent(absl::Status status) {
  status.SetPayload(kPermanent, absl::Cord());
  return status;
}
inline bool IsPermanent(const absl::Status& status) { return status.GetPayload(kPermanent).has_value(); }

// What the group was to start from is missing or damaged; another place may do.
inline absl::Status ResumeUnusable(absl::Status status) {
  status.SetPayload(kResumeUnusable, absl::Cord());
  return status;
}
inline bool IsResumeUnusable(const absl::Status& status) { return status.GetPayload(kResumeUnusable).has_value(); }

}  // namespace lockstep
