// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "common/model/layers/layers.h"

namespace lockstep {

// Element-wise: the shape stays.
void DescribeDropout(LayerPlan& plan, Violations& violations) {
  const double rate = plan.spec.dropout().rate();
  // Written so that a NaN is refused too.
  if (!(rate >= 0 && rate < 1)) {
    violations.Add(absl::StrCat(plan.field, ".dropout.rate"), absl::StrCat("must lie in [0, 1), not ", rate));
  }
  plan.output = plan.input;
}

}  // namespace lockstep
