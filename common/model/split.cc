// SPDX-License-Identifier: Apache-2.0
#include "common/model/split.h"

#include <cmath>

#include "common/permutation.h"
#include "common/rng.h"

namespace lockstep {

int64_t HeldOutCount(int64_t samples, double fraction) { return std::llround(fraction * static_cast<double>(samples)); }

std::vector<bool> HeldOut(int64_t samples, double fraction, uint64_t seed) {
  std::vector<bool> held_out(static_cast<size_t>(samples));
  if (samples == 0) return held_out;
  const auto count = static_cast<uint64_t>(HeldOutCount(samples, fraction));
  const Permutation order(static_cast<uint64_t>(samples), seed ^ static_cast<uint64_t>(RngPurpose::kSplit) << 56, 0);
  for (int64_t i = 0; i < samples; ++i) held_out[i] = order(static_cast<uint64_t>(i)) < count;
  return held_out;
}

}  // namespace lockstep
