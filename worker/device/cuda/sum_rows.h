// SPDX-License-Identifier: Apache-2.0
// Sums over the rows of a matrix; see Device.
#pragma once

#include <cstdint>

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

// Rows are cut into chunks; each is added as a tree of eight interleaved sums, and so are the chunks' sums.
void SumRows(Context& context, Tensor dy, Tensor out);

}  // namespace lockstep::cuda
