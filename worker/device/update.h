// SPDX-License-Identifier: Apache-2.0
// What one pass of an optimizer does to a weight, its gradient and its state. The arithmetic is in
// math/optimizers.h, the meaning of an optimizer in optimizer.proto.
#pragma once

#include <cstdint>

#include "worker/device/tensor.h"

namespace lockstep {

enum class UpdateRule : uint8_t {
  // The state behind each rule, in order. Rules of the first block change weights and state only.
  kSgd,
  kMomentum,                 // velocity
  kNesterov,                 // velocity
  kAdam,                     // m, v
  kAmsgrad,                  // m, v, largest v
  kNadam,                    // m, v
  kAdagrad,                  // sum of squares
  kRmsprop,                  // v
  kRmspropMomentum,          // v, buffer
  kRmspropCentered,          // v, mean
  kRmspropCenteredMomentum,  // v, mean, buffer
  kLion,                     // m
  kLars,                     // velocity
  // LAMB in two: the direction takes the gradient's place, and is applied once its norm is known.
  kLambDirection,  // m, v
  kLambApply,
  // What is done to gradients before the update; weights are read only.
  kPenalty,
  kClipValue,
  kClipNorm,
  // Of an average and the weights in the gradient's place.
  kAverage,
  kSwap,
};

// The most state that a rule has for each weight.
inline constexpr int kMaxUpdateStates = 3;

// Scalars of a pass, prepared on the host in double. A rule reads those that its functor names.
struct UpdateArgs {
  // The learning rate with every correction that does not depend on the weight.
  double step_size = 0;
  // For rules of the first block: w -= decay w before the update. 0: not done.
  double decay = 0;
  // LAMB, LARS: added to the direction, times w.
  double weight_decay = 0;
  double beta_1 = 0;
  double beta_2 = 0;
  double epsilon = 0;
  // NAdam: what the gradient itself is multiplied by.
  double gradient_step = 0;
  // NAdam, LAMB: what m and v are multiplied by.
  double correction_1 = 1;
  double correction_2 = 1;
  // LARS: its trust coefficient. Clips: the limit. Penalty: l1 and l2.
  double trust = 0;
  double limit = 0;
  double l1 = 0;
  double l2 = 0;
  // kF64 on the device. LAMB, LARS: [2] sums of squares of the weights, and of the gradient or
  // direction. kClipNorm: [1] that of the gradient.
  Tensor norms;
};

}  // namespace lockstep
