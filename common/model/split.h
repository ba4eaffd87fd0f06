// SPDX-License-Identifier: Apache-2.0
// Which samples are held out: a function of the seed and of how many there are.
#pragma once

#include <cstdint>
#include <vector>

namespace lockstep {

// round(fraction * samples), for a fraction in [0, 1].
int64_t HeldOutCount(int64_t samples, double fraction);

// Sample i is held out where Permutation(samples, seed of the split, 0)(i) < HeldOutCount.
std::vector<bool> HeldOut(int64_t samples, double fraction, uint64_t seed);

}  // namespace lockstep
