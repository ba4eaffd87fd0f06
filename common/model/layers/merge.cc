// SPDX-License-Identifier: Apache-2.0
// Layers with several inputs.
#include "absl/strings/str_cat.h"
#include "common/model/model_plan.h"

namespace lockstep {

namespace {

bool CheckCount(const LayerPlan& plan, Violations& violations) {
  if (plan.inputs.size() >= 2) return true;
  violations.Add(plan.field + ".inputs", absl::StrCat(plan.kind, " needs the names of at least two layers"));
  return false;
}

}  // namespace

void DescribeAdd(LayerPlan& plan, Violations& violations) {
  plan.merges = true;
  plan.output = plan.input;
  if (!CheckCount(plan, violations)) return;
  for (size_t i = 1; i < plan.inputs.size(); ++i) {
    if (plan.inputs[i] == plan.input) continue;
    violations.Add(absl::StrCat(plan.field, ".inputs[", i, "]"),
                   absl::StrCat("has the shape ", plan.inputs[i].ToString(), ", but the first input ",
                                plan.input.ToString(), "; add needs equal ones"));
  }
}

void DescribeConcatenate(LayerPlan& plan, Violations& violations) {
  plan.merges = true;
  plan.output = plan.input;
  if (!CheckCount(plan, violations)) return;
  const int64_t rank = plan.input.rank(), given = plan.spec.concatenate().axis();
  const int64_t axis = given < 0 ? given + rank : given;
  if (axis < 0 || axis >= rank) {
    violations.Add(plan.field + ".concatenate.axis",
                   absl::StrCat("is ", given, ", but the first input has the shape ", plan.input.ToString()));
    return;
  }
  std::vector<int64_t> dims(plan.input.dims().begin(), plan.input.dims().end());
  for (size_t i = 1; i < plan.inputs.size(); ++i) {
    const Shape& other = plan.inputs[i];
    bool fits = other.rank() == rank;
    for (int64_t a = 0; fits && a < rank; ++a)
      fits = a == axis || other[static_cast<int>(a)] == plan.input[static_cast<int>(a)];
    if (!fits) {
      violations.Add(absl::StrCat(plan.field, ".inputs[", i, "]"),
                     absl::StrCat("has the shape ", other.ToString(), ", but the first input ", plan.input.ToString(),
                                  "; all axes but ", axis, " must be equal"));
      return;
    }
    dims[static_cast<size_t>(axis)] += other[static_cast<int>(axis)];
  }
  if (CheckedElements(dims, kMaxTensorElements) < 0) {
    violations.Add(plan.field, absl::StrCat("its output is over the limit of ", kMaxTensorElements, " numbers"));
    return;
  }
  plan.output = Shape(dims);
}

}  // namespace lockstep
