// SPDX-License-Identifier: Apache-2.0
// Normalisation (see Device). Sums over rows and places are trees in double: those of a block, then the blocks, as the
// shape and the layout say.
#pragma once

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/device.h"

namespace lockstep::cuda {

void ChannelSums(Context& context, Tensor x, Tensor sums);
void ChannelStatistics(Context& context, Tensor sums, double count, double epsilon, Tensor statistics);
void MovingStatistics(Context& context, Tensor mean, Tensor variance, double epsilon, Tensor statistics);
void ChannelNormForward(Context& context, Tensor x, Tensor statistics, Tensor gamma, Tensor beta,
                        const ActivationArgs& activation, Tensor y);
void ChannelNormSums(Context& context, Tensor x, Tensor statistics, Tensor dy, Tensor sums);
void ChannelNormBackward(Context& context, Tensor x, Tensor statistics, Tensor gamma, Tensor sums, double count,
                         Tensor dy, Tensor dx);
void RowNormForward(Context& context, const RowNormArgs& args, Tensor x, Tensor gamma, Tensor beta, Tensor statistics,
                    Tensor y);
void RowNormBackward(Context& context, const RowNormArgs& args, Tensor x, Tensor gamma, Tensor statistics, Tensor dy,
                     Tensor dx, Tensor dgamma, Tensor dbeta);

}  // namespace lockstep::cuda
