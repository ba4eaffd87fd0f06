// SPDX-License-Identifier: Apache-2.0
// The passes of optimizers over flat arrays; see Device.
#pragma once

#include <span>

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

void ApplyUpdate(Context& context, UpdateRule rule, const UpdateArgs& args, Tensor w, Tensor gradient,
                 std::span<const Tensor> state);
void SumSquares(Context& context, Tensor x, Tensor out);
void CheckFinite(Context& context, Tensor x, Tensor flag);

}  // namespace lockstep::cuda
