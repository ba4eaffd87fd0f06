// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "common/model/model_plan.h"

namespace lockstep {

void DescribeDropout(LayerPlan& plan, Violations& violations) {
  plan.output = plan.input;
  const double rate = plan.spec.dropout().rate();
  // Written so that a NaN is refused too.
  if (!(rate >= 0 && rate < 1)) {
    violations.Add(plan.field + ".dropout.rate", absl::StrCat("is ", rate, "; must be at least 0 and below 1"));
  }
}

}  // namespace lockstep
