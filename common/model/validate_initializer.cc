// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "common/model/checks.h"
#include "common/model/ranges.h"

namespace lockstep {

namespace {

void CheckUniform(const v1::RandomUniformInitializer& spec, const std::string& field, Violations& violations) {
  const double low = spec.has_minval() ? spec.minval() : -0.05, high = spec.has_maxval() ? spec.maxval() : 0.05;
  if (!std::isfinite(low) || !std::isfinite(high) || !(low < high)) {
    violations.Add(field, absl::StrCat("draws between ", low, " and ", high, "; minval must be less than maxval"));
  }
}

template <typename Spec>
void CheckNormal(const Spec& spec, const std::string& field, Violations& violations) {
  CheckFinite(violations, field + ".mean", spec.mean());
  if (spec.has_stddev()) CheckNotNegative(violations, field + ".stddev", spec.stddev());
}

void CheckOrthogonal(const v1::OrthogonalInitializer& spec, const Shape& shape, const std::string& field,
                     Violations& violations) {
  if (spec.has_gain()) CheckFinite(violations, field + ".gain", spec.gain());
  if (shape.rank() < 2) {
    violations.Add(field, absl::StrCat("needs at least two axes, but the parameter has the shape ", shape.ToString()));
    return;
  }
  // Its cost is the long side times the short one squared.
  constexpr double kMost = 8.6e9;
  const double rows = static_cast<double>(shape[0]), columns = static_cast<double>(shape.elements()) / rows;
  if (rows * columns * std::min(rows, columns) > kMost) {
    violations.Add(field, absl::StrCat("takes too long for the shape ", shape.ToString(),
                                       "; up to about 2048 x 2048 it does not. Use glorot_normal"));
  }
}

}  // namespace

void CheckInitializer(const v1::InitializerSpec& spec, const Shape& shape, const std::string& field,
                      Violations& violations) {
  switch (spec.kind_case()) {
    case v1::InitializerSpec::kConstant:
      CheckFinite(violations, field + ".constant.value", spec.constant().value());
      return;
    case v1::InitializerSpec::kRandomUniform:
      return CheckUniform(spec.random_uniform(), field + ".random_uniform", violations);
    case v1::InitializerSpec::kRandomNormal:
      return CheckNormal(spec.random_normal(), field + ".random_normal", violations);
    case v1::InitializerSpec::kTruncatedNormal:
      return CheckNormal(spec.truncated_normal(), field + ".truncated_normal", violations);
    case v1::InitializerSpec::kOrthogonal:
      return CheckOrthogonal(spec.orthogonal(), shape, field + ".orthogonal", violations);
    case v1::InitializerSpec::kIdentity:
      if (spec.identity().has_gain()) CheckFinite(violations, field + ".identity.gain", spec.identity().gain());
      if (shape.rank() != 2) {
        violations.Add(field + ".identity",
                       absl::StrCat("needs two axes, but the parameter has the shape ", shape.ToString()));
      }
      return;
    case v1::InitializerSpec::kZeros:
    case v1::InitializerSpec::kOnes:
    case v1::InitializerSpec::kGlorotUniform:
    case v1::InitializerSpec::kGlorotNormal:
    case v1::InitializerSpec::kHeUniform:
    case v1::InitializerSpec::kHeNormal:
    case v1::InitializerSpec::kLecunUniform:
    case v1::InitializerSpec::kLecunNormal:
    // The layer's default.
    case v1::InitializerSpec::KIND_NOT_SET:
      return;
  }
}

}  // namespace lockstep
