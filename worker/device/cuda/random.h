// SPDX-License-Identifier: Apache-2.0
// Draws, the same ones as on every device: see common/rng.h and math/random.h.
#pragma once

#include <cstdint>

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

void RandomUniform(Context& context, Tensor out, const RngStream& stream, double low, double high);
void RandomNormal(Context& context, Tensor out, const RngStream& stream, const NormalArgs& args);
void Dropout(Context& context, Tensor x, double rate, const RngStream& stream, int64_t first_row, Tensor y);

}  // namespace lockstep::cuda
