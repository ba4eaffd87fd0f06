// SPDX-License-Identifier: Apache-2.0
#include "worker/train/trainer_state.h"

#include "absl/strings/str_cat.h"

namespace lockstep {

void TrainerState::Pack(std::span<double> to) const {
  to[0] = static_cast<double>(rows);
  to[1] = static_cast<double>(steps);
  std::ranges::copy(extra, std::ranges::copy(sums, to.begin() + 2).out);
}

absl::Status TrainerState::Unpack(std::span<const double> from) {
  if (from.size() != packed_size()) {
    return absl::InvalidArgumentError(absl::StrCat("the trainer's state has ", from.size(), " numbers, but this job's ",
                                                   packed_size(), ": it was made with other metrics"));
  }
  // Negative, too large or not a number: a conversion of these would be undefined.
  constexpr double kLimit = 9007199254740992.0;
  for (const double count : from.first(2)) {
    if (!(count >= 0 && count <= kLimit)) return absl::InvalidArgumentError("the trainer's state is damaged");
  }
  rows = static_cast<int64_t>(from[0]);
  steps = static_cast<int64_t>(from[1]);
  std::ranges::copy(from.subspan(2, sums.size()), sums.begin());
  std::ranges::copy(from.subspan(2 + sums.size()), extra.begin());
  return absl::OkStatus();
}

}  // namespace lockstep
