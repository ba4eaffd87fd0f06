// SPDX-License-Identifier: Apache-2.0
// Orthonormal vectors from normal draws.
#pragma once

#include <cstdint>
#include <vector>

#include "common/rng.h"

namespace lockstep {

// `count` vectors of `length` numbers, one behind the other; count <= length. They are what a QR
// factorisation with a positive diagonal makes of a matrix of normal draws, so no direction is preferred.
// Element j of vector i begins as draw i * length + j. In double, in a fixed order.
std::vector<double> OrthonormalVectors(int64_t count, int64_t length, const RngStream& stream);

}  // namespace lockstep
