// SPDX-License-Identifier: Apache-2.0
// Element-wise layers have the shape of their input; softmax works on the last axis.
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/model/model_plan.h"

namespace lockstep {

namespace {

void CheckFiniteNumber(double value, const std::string& field, Violations& violations) {
  if (!std::isfinite(value)) violations.Add(field, absl::StrCat("is ", value, "; must be a finite number"));
}

void DescribeOverLastAxis(LayerPlan& plan, Violations& violations) {
  plan.output = plan.input;
  if (plan.input.rank() == 0) violations.Add(plan.field, plan.kind + " needs an input with at least one axis");
}

}  // namespace

void DescribeLinear(LayerPlan& plan, Violations&) { plan.output = plan.input; }
void DescribeRelu(LayerPlan& plan, Violations&) { plan.output = plan.input; }
void DescribeSelu(LayerPlan& plan, Violations&) { plan.output = plan.input; }
void DescribeGelu(LayerPlan& plan, Violations&) { plan.output = plan.input; }
void DescribeSilu(LayerPlan& plan, Violations&) { plan.output = plan.input; }
void DescribeSigmoid(LayerPlan& plan, Violations&) { plan.output = plan.input; }
void DescribeHardSigmoid(LayerPlan& plan, Violations&) { plan.output = plan.input; }
void DescribeTanh(LayerPlan& plan, Violations&) { plan.output = plan.input; }
void DescribeSoftplus(LayerPlan& plan, Violations&) { plan.output = plan.input; }
void DescribeSoftmax(LayerPlan& plan, Violations& violations) { DescribeOverLastAxis(plan, violations); }
void DescribeLogSoftmax(LayerPlan& plan, Violations& violations) { DescribeOverLastAxis(plan, violations); }

void DescribeLeakyRelu(LayerPlan& plan, Violations& violations) {
  plan.output = plan.input;
  const double slope = plan.spec.leaky_relu().negative_slope();
  // Written so that a NaN is refused too.
  if (!(slope >= 0 && slope <= 1)) {
    violations.Add(plan.field + ".leaky_relu.negative_slope", absl::StrCat("is ", slope, "; must be from 0 to 1"));
  }
}

void DescribeElu(LayerPlan& plan, Violations& violations) {
  plan.output = plan.input;
  CheckFiniteNumber(plan.spec.elu().alpha(), plan.field + ".elu.alpha", violations);
  if (plan.spec.elu().alpha() < 0) violations.Add(plan.field + ".elu.alpha", "must not be negative");
}

}  // namespace lockstep
