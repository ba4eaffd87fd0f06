// SPDX-License-Identifier: Apache-2.0
// What metrics are made of (see Device). Counts are whole numbers in doubles, whose sums are exact in any order, so
// that atomic additions of them leave the same bits in every run. SumErrors is a sum like those of losses.h: a fixed
// tree.
#pragma once

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

void CountTopK(Context& context, Tensor outputs, Tensor targets, int k, Tensor sum);
void CountClasses(Context& context, Tensor outputs, Tensor targets, Tensor sums);
void CountConfusion(Context& context, Tensor outputs, Tensor targets, Tensor sums);
void CountSides(Context& context, Tensor outputs, Tensor targets, double threshold, Tensor sums);
void ScoreHistogram(Context& context, Tensor outputs, OutputKind kind, Tensor targets, Tensor sums);
void SumErrors(Context& context, Tensor predictions, Tensor targets, Tensor sums);

}  // namespace lockstep::cuda
