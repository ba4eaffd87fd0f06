// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "common/model/model_plan.h"
#include "common/model/names.h"

namespace lockstep {

namespace {

// Adds a violation where the name is unknown.
Initializer ParseInitializer(const std::string& name, const std::string& field, Violations& violations) {
  static const std::vector<std::string> kNames{"glorot_uniform", "he_uniform", "zeros"};
  if (name.empty() || name == "glorot_uniform") return Initializer::kGlorotUniform;
  if (name == "he_uniform") return Initializer::kHeUniform;
  if (name == "zeros") return Initializer::kZeros;
  violations.Add(field, absl::StrCat("unknown initializer \"", name.substr(0, 64), "\"", DidYouMean(name, kNames),
                                     " Known: glorot_uniform, he_uniform, zeros"));
  return Initializer::kZeros;
}

}  // namespace

void DescribeDense(LayerPlan& plan, Violations& violations) {
  const v1::DenseLayer& dense = plan.spec.dense();
  const std::string field = plan.field + ".dense";
  const Initializer initializer =
      ParseInitializer(dense.kernel_initializer(), field + ".kernel_initializer", violations);
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
  plan.parameters.push_back({.name = "kernel",
                             .shape = Shape{inputs, dense.units()},
                             .initializer = initializer,
                             .fan_in = inputs,
                             .fan_out = dense.units()});
  if (!dense.has_use_bias() || dense.use_bias())
    plan.parameters.push_back({.name = "bias", .shape = Shape{dense.units()}});
}

}  // namespace lockstep
