// SPDX-License-Identifier: Apache-2.0
#include "common/model/layers/layers.h"

namespace lockstep {

// Element-wise: the shape stays.
void DescribeRelu(LayerPlan& plan, Violations&) { plan.output = plan.input; }

}  // namespace lockstep
