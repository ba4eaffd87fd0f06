// SPDX-License-Identifier: Apache-2.0
// Element-wise functions; see Device.
#pragma once

#include <cstdint>

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

void ActivationForward(Context& context, const ActivationArgs& args, Tensor x, Tensor y);
void ActivationBackward(Context& context, const ActivationArgs& args, Tensor x, Tensor y, Tensor dy, Tensor dx);
// out = f(out + bias). out: [rows, n]; bias: [n] or null data.
void BiasActivation(Context& context, const ActivationArgs& args, Tensor bias, Tensor out);

}  // namespace lockstep::cuda
