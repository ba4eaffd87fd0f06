// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "common/model/layers/parameters.h"
#include "common/model/model_plan.h"

namespace lockstep {

void DescribeDense(LayerPlan& plan, Violations& violations) {
  const v1::DenseLayer& dense = plan.spec.dense();
  const std::string field = plan.field + ".dense";
  if (dense.units() < 1 || dense.units() > kMaxTensorElements) {
    violations.Add(field + ".units", absl::StrCat("is ", dense.units(), "; give the width of the output, at least 1"));
    // One, so that the layers behind are checked too.
    plan.output = Shape{1};
    return;
  }
  plan.output = Shape{dense.units()};
  if (plan.input.rank() != 1) {
    violations.Add(plan.field, absl::StrCat("dense takes one axis, but its input has the shape ", plan.input.ToString(),
                                            "; put a flatten layer before it"));
    return;
  }
  const int64_t inputs = plan.input[0];
  const int64_t dims[] = {inputs, dense.units()};
  if (CheckedElements(dims, kMaxTensorElements) < 0) {
    violations.Add(field + ".units", absl::StrCat("a kernel of ", inputs, " x ", dense.units(),
                                                  " is over the limit of ", kMaxTensorElements, " numbers"));
    return;
  }
  AddParameter(plan,
               {.name = "kernel", .shape = Shape{inputs, dense.units()}, .fan_in = inputs, .fan_out = dense.units()},
               {.field = field,
                .initializer = dense.has_kernel_initializer() ? &dense.kernel_initializer() : nullptr,
                .otherwise = GlorotUniform(),
                .regularizer = &dense.kernel_regularizer()},
               violations);
  if (dense.has_use_bias() && !dense.use_bias()) return;
  AddBias(plan, dense.units(), field, dense.bias_initializer(), dense.bias_regularizer(), violations);
}

}  // namespace lockstep
