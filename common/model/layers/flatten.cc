// SPDX-License-Identifier: Apache-2.0
#include "common/model/model_plan.h"

namespace lockstep {

void DescribeFlatten(LayerPlan& plan, Violations&) { plan.output = Shape{plan.input.elements()}; }

}  // namespace lockstep
