// SPDX-License-Identifier: Apache-2.0
// Element-wise layers have the shape of their input and nothing to check; softmax works on the last axis.
#include "common/model/model_plan.h"

namespace lockstep {

void DescribeRelu(LayerPlan& plan, Violations&) { plan.output = plan.input; }
void DescribeSigmoid(LayerPlan& plan, Violations&) { plan.output = plan.input; }
void DescribeTanh(LayerPlan& plan, Violations&) { plan.output = plan.input; }

void DescribeSoftmax(LayerPlan& plan, Violations& violations) {
  plan.output = plan.input;
  if (plan.input.rank() == 0) violations.Add(plan.field, "softmax needs an input with at least one axis");
}

}  // namespace lockstep
