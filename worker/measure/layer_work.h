// SPDX-License-Identifier: Apache-2.0
// What a layer's arithmetic is, from its plan.
#pragma once

#include <cstdint>

#include "common/model/model_plan.h"

namespace lockstep {

// Multiplications and additions of the products, and bytes that have to be moved at least: each operand once.
struct LayerWork {
  double forward_flops = 0;
  double backward_flops = 0;
  double forward_bytes = 0;
  double backward_bytes = 0;

  LayerWork& operator+=(const LayerWork& other);
};

// Of one micro-batch of `rows` samples. `wants_input_gradient`: a layer before it has weights.
LayerWork WorkOf(const LayerPlan& plan, bool wants_input_gradient, int64_t rows);

}  // namespace lockstep
