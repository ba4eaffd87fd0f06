// SPDX-License-Identifier: Apache-2.0
#include "common/model/layers/layers.h"

namespace lockstep {

// [a, b, ...] to [a * b * ...]. PlanModel has checked that the product is small enough.
void DescribeFlatten(LayerPlan& plan, Violations&) {
  if (plan.input.rank() > 0) plan.output = Shape{plan.input.elements()};
}

}  // namespace lockstep
