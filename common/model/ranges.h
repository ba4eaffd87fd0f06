// SPDX-License-Identifier: Apache-2.0
// Checks of single numbers. A NaN or infinity is in no range.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/model/violations.h"

namespace lockstep {

// In [low, high).
inline void CheckBelow(Violations& violations, const std::string& field, double value, double low, double high) {
  if (value >= low && value < high) return;
  violations.Add(field, absl::StrCat("is ", value, "; must be at least ", low, " and below ", high));
}
// In [low, high].
inline void CheckBetween(Violations& violations, const std::string& field, double value, double low, double high) {
  if (value >= low && value <= high) return;
  violations.Add(field, absl::StrCat("is ", value, "; must be at least ", low, " and at most ", high));
}
// In (0, 1].
inline void CheckShare(Violations& violations, const std::string& field, double value) {
  if (value > 0 && value <= 1) return;
  violations.Add(field, absl::StrCat("is ", value, "; must be greater than 0 and at most 1"));
}
inline void CheckPositive(Violations& violations, const std::string& field, double value) {
  if (value > 0 && std::isfinite(value)) return;
  violations.Add(field, absl::StrCat("is ", value, "; must be greater than 0"));
}
inline void CheckNotNegative(Violations& violations, const std::string& field, double value) {
  if (value >= 0 && std::isfinite(value)) return;
  violations.Add(field, absl::StrCat("is ", value, "; must be at least 0"));
}
inline void CheckFinite(Violations& violations, const std::string& field, double value) {
  if (std::isfinite(value)) return;
  violations.Add(field, absl::StrCat("is ", value, "; must be a finite number"));
}
inline void CheckAtLeast(Violations& violations, const std::string& field, int64_t value, int64_t low) {
  if (value >= low) return;
  violations.Add(field, absl::StrCat("is ", value, "; must be at least ", low));
}

}  // namespace lockstep
