// SPDX-License-Identifier: Apache-2.0
// What is done to a step's summed gradient before the optimizer has it. Nothing waits for the device.
#pragma once

#include "worker/device/device.h"
#include "worker/nn/model.h"

namespace lockstep {

// Takes the loss scale out of the gradient (flat, as the model's parameters). scratch: kF64 [1] on the device.
void Unscale(Device& device, Model& model, double scale, Tensor gradient, Tensor scratch);
// squares: kF64 [1] becomes the sum of the squares of all that the optimizer changes.
void SumSquaresOf(Device& device, const Model& model, Tensor gradient, Tensor squares);

}  // namespace lockstep
