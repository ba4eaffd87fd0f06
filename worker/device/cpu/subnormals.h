// SPDX-License-Identifier: Apache-2.0
// Numbers below the smallest normal one (2^-126 of floats): moments of weights whose gradient is zero fade into them,
// and many processors take a hundred times as long for one as for any other number.
#pragma once

namespace lockstep::cpu {

// From now on this thread, and those that it starts, take subnormal numbers for zero, in and out.
void FlushSubnormals();

}  // namespace lockstep::cpu
