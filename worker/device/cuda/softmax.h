// SPDX-License-Identifier: Apache-2.0
// Softmax over the last axis; see Device.
#pragma once

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

void SoftmaxForward(Context& context, Tensor x, Tensor y);
void SoftmaxBackward(Context& context, Tensor y, Tensor dy, Tensor dx);
void LogSoftmaxForward(Context& context, Tensor x, Tensor y);
void LogSoftmaxBackward(Context& context, Tensor y, Tensor dy, Tensor dx);

}  // namespace lockstep::cuda
