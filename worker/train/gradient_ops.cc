// SPDX-License-Identifier: Apache-2.0
#include "worker/train/gradient_ops.h"

#include <algorithm>

namespace lockstep {

// Moving statistics, which lie behind all else, ride in the gradient and are not scaled.
void Unscale(Device& device, Model& model, double scale, Tensor gradient, Tensor scratch) {
  if (scale == 1) return;
  int64_t scaled = gradient.elements();
  for (const ParameterView& view : model.parameter_views()) {
    if (view.moving_momentum.has_value()) scaled = std::min(scaled, view.offset);
  }
  const Shape part{scaled};
  device.Fill(scratch, scale * scale);
  // To a norm of 1 from one of `scale`.
  device.ApplyUpdate(UpdateRule::kClipNorm, {.limit = 1, .norms = scratch},
                     {model.parameters().data, part, DType::kF32}, {gradient.data, part, DType::kF32}, {});
}

void SumSquaresOf(Device& device, const Model& model, Tensor gradient, Tensor squares) {
  device.Fill(squares, 0);
  for (const ParameterView& view : model.parameter_views()) {
    // A moving statistic has no gradient, only a place in its array.
    if (view.trainable) device.SumSquares({gradient.as<float>() + view.offset, view.shape, DType::kF32}, squares);
  }
}

}  // namespace lockstep
