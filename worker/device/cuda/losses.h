// SPDX-License-Identifier: Apache-2.0
// The losses (see Device). Where a comment there says "rows in order", the order here is a fixed tree: 64 rows or
// 2048 outputs of a block, then the blocks.
#pragma once

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

void SoftmaxCrossEntropy(Context& context, const CrossEntropyArgs& args, Tensor logits, Tensor targets, double scale,
                         Tensor dlogits, Tensor sum);
void CrossEntropy(Context& context, const CrossEntropyArgs& args, Tensor probabilities, Tensor targets, double scale,
                  Tensor dprobabilities, Tensor sum);
void ElementLoss(Context& context, const ElementLossArgs& args, Tensor predictions, Tensor targets, double scale,
                 Tensor dpredictions, Tensor sum);

}  // namespace lockstep::cuda
