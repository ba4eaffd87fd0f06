// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/model/layers/layers.h"
#include "common/model/text.h"

namespace lockstep {

namespace {

Initializer ParseInitializer(const LayerPlan& plan, Violations& violations) {
  const std::string& name = plan.spec.dense().kernel_initializer();
  if (name.empty() || name == "glorot_uniform") return Initializer::kGlorotUniform;
  if (name == "he_uniform") return Initializer::kHeUniform;
  if (name == "zeros") return Initializer::kZeros;
  const std::vector<std::string> known = {"glorot_uniform", "he_uniform", "zeros"};
  violations.Add(absl::StrCat(plan.field, ".dense.kernel_initializer"),
                 absl::StrCat("unknown initializer ", Quoted(name), DidYouMean(name, known), "; choose one of ",
                              absl::StrJoin(known, ", ")));
  return Initializer::kGlorotUniform;
}

void CheckActivation(const LayerPlan& plan, Violations& violations) {
  const std::string& name = plan.spec.dense().activation();
  if (name.empty() || name == "linear" || std::ranges::find(KnownActivations(), name) != KnownActivations().end()) {
    return;
  }
  std::vector<std::string> known = KnownActivations();
  known.insert(known.begin(), "linear");
  violations.Add(absl::StrCat(plan.field, ".dense.activation"),
                 absl::StrCat("unknown activation ", Quoted(name), DidYouMean(name, known), "; choose one of ",
                              absl::StrJoin(known, ", ")));
}

}  // namespace

const std::vector<std::string>& KnownActivations() {
  static const auto* const kNames = new std::vector<std::string>{"relu", "sigmoid", "softmax", "tanh"};
  return *kNames;
}

// y: [units]; kernel: [in, units], bias: [units].
void DescribeDense(LayerPlan& plan, Violations& violations) {
  const v1::DenseLayer& dense = plan.spec.dense();
  CheckActivation(plan, violations);
  const Initializer initializer = ParseInitializer(plan, violations);
  const std::string units_field = absl::StrCat(plan.field, ".dense.units");
  if (dense.units() < 1) {
    violations.Add(units_field, absl::StrCat("must be at least 1, not ", dense.units()));
    return;
  }
  if (dense.units() > kMaxTensorElements) {
    violations.Add(units_field, absl::StrCat(dense.units(), " is more than the limit of ", kMaxTensorElements));
    return;
  }
  plan.output = Shape{dense.units()};
  if (plan.input.rank() == 0) return;
  if (plan.input.rank() > 1) {
    violations.Add(absl::StrCat(plan.field, ".dense"),
                   absl::StrCat("takes a row of numbers, but its input has the shape ", plan.input.ToString(),
                                "; put a flatten layer before it"));
    return;
  }
  const int64_t in = plan.input[0];
  const std::array<int64_t, 2> kernel{in, dense.units()};
  if (CheckedElements(kernel, kMaxTensorElements) < 0) {
    violations.Add(units_field, absl::StrCat("its kernel of ", in, " x ", dense.units(), " numbers is larger than the ",
                                             "limit of ", kMaxTensorElements));
    return;
  }
  plan.parameters.push_back({absl::StrCat(plan.name, "/kernel"), Shape(kernel), initializer, in, dense.units()});
  if (!dense.has_use_bias() || dense.use_bias()) {
    plan.parameters.push_back(
        {absl::StrCat(plan.name, "/bias"), Shape{dense.units()}, Initializer::kZeros, in, dense.units()});
  }
}

}  // namespace lockstep
