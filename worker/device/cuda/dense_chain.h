// SPDX-License-Identifier: Apache-2.0
// A small network's step in two kernels (worker/device/dense_chain.h): the first layer, over many multiprocessors, and
// all the rest. What lies between the first layer and its gradient is so little that each block of the second kernel
// computes all of it, and none waits for another.
#pragma once

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/dense_chain.h"

namespace lockstep::cuda {

bool TakesDenseChain(const DenseChain& chain);
// Where TakesDenseChain.
void RunDenseChain(Context& context, const DenseChain& chain);

}  // namespace lockstep::cuda
