// SPDX-License-Identifier: Apache-2.0
// Pooling (see Device). A gradient is gathered by each input from the windows over it, outputs in
// order, so that nothing is added by chance.
#pragma once

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

void PoolForward(Context& context, Pooling kind, const WindowArgs& args, Tensor x, Tensor y);
void PoolBackward(Context& context, Pooling kind, const WindowArgs& args, Tensor x, Tensor y, Tensor dy,
                  const ActivationArgs& before, Tensor dx);

}  // namespace lockstep::cuda
