// SPDX-License-Identifier: Apache-2.0
#include "common/model/layers/parameters.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/model/checks.h"

namespace lockstep {

namespace {

// Where the message has no field of the parameter's own name.
std::string Prefix(const LayerPlan& plan, const ParameterPlan& parameter) {
  return plan.kind == "depthwise_conv2d" && parameter.name == "kernel" ? "depthwise" : parameter.name;
}

}  // namespace

v1::InitializerSpec GlorotUniform() {
  v1::InitializerSpec spec;
  spec.mutable_glorot_uniform();
  return spec;
}

v1::InitializerSpec Ones() {
  v1::InitializerSpec spec;
  spec.mutable_ones();
  return spec;
}

void AddParameter(LayerPlan& plan, ParameterPlan parameter, const ParameterFields& fields, Violations& violations) {
  parameter.initializer = fields.initializer == nullptr ? fields.otherwise : *fields.initializer;
  const std::string prefix = absl::StrCat(fields.field, ".", Prefix(plan, parameter));
  CheckInitializer(parameter.initializer, parameter.shape, prefix + "_initializer", violations);
  if (fields.regularizer != nullptr) {
    parameter.l1 = fields.regularizer->l1();
    parameter.l2 = fields.regularizer->l2();
    for (const auto& [name, value] : {std::pair{".l1", parameter.l1}, std::pair{".l2", parameter.l2}}) {
      if (value >= 0 && std::isfinite(value)) continue;
      violations.Add(absl::StrCat(prefix, "_regularizer", name), absl::StrCat("is ", value, "; must be at least 0"));
    }
  }
  plan.parameters.push_back(std::move(parameter));
}

void AddBias(LayerPlan& plan, int64_t width, const std::string& field, const v1::InitializerSpec& initializer,
             const v1::RegularizerSpec& regularizer, Violations& violations) {
  AddParameter(plan, {.name = "bias", .shape = Shape{width}},
               {.field = field, .initializer = &initializer, .otherwise = {}, .regularizer = &regularizer}, violations);
}

}  // namespace lockstep
