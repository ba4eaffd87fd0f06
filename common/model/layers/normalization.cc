// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/model/layers/parameters.h"

namespace lockstep {

namespace {

void CheckEpsilon(bool given, double epsilon, const std::string& field, Violations& violations) {
  if (given && !(epsilon > 0 && std::isfinite(epsilon))) {
    violations.Add(field + ".epsilon", absl::StrCat("is ", epsilon, "; must be greater than 0"));
  }
}

// gamma where the layer scales, beta where it centers.
template <typename Layer>
void AddScaleAndCenter(LayerPlan& plan, const Layer& layer, const Shape& shape) {
  if (!layer.has_scale() || layer.scale()) {
    plan.parameters.push_back({.name = "gamma", .shape = shape, .initializer = Ones()});
  }
  if (!layer.has_center() || layer.center()) plan.parameters.push_back({.name = "beta", .shape = shape});
}

}  // namespace

void DescribeBatchNormalization(LayerPlan& plan, Violations& violations) {
  const v1::BatchNormalizationLayer& layer = plan.spec.batch_normalization();
  const std::string field = plan.field + ".batch_normalization";
  plan.output = plan.input;
  CheckEpsilon(layer.has_epsilon(), layer.epsilon(), field, violations);
  const double momentum = layer.has_momentum() ? layer.momentum() : 0.99;
  if (!(momentum >= 0 && momentum < 1)) {
    violations.Add(field + ".momentum", absl::StrCat("is ", momentum, "; must be at least 0 and below 1"));
  }
  if (plan.input.rank() == 0) {
    violations.Add(plan.field, "batch_normalization needs an input with at least one axis");
    return;
  }
  const Shape channels{plan.input[0]};
  AddScaleAndCenter(plan, layer, channels);
  plan.parameters.push_back(
      {.name = "moving_mean", .shape = channels, .trainable = false, .moving_momentum = momentum});
  plan.parameters.push_back({.name = "moving_variance",
                             .shape = channels,
                             .initializer = Ones(),
                             .trainable = false,
                             .moving_momentum = momentum});
}

void DescribeLayerNormalization(LayerPlan& plan, Violations& violations) {
  const v1::LayerNormalizationLayer& layer = plan.spec.layer_normalization();
  const std::string field = plan.field + ".layer_normalization";
  plan.output = plan.input;
  CheckEpsilon(layer.has_epsilon(), layer.epsilon(), field, violations);
  const int64_t rank = plan.input.rank(), given = layer.has_axis() ? layer.axis() : -1;
  const int64_t axis = given < 0 ? given + rank : given;
  if (axis < 0 || axis >= rank) {
    violations.Add(field + ".axis",
                   absl::StrCat("is ", given, ", but the input has the shape ", plan.input.ToString()));
    return;
  }
  AddScaleAndCenter(plan, layer, Shape(plan.input.dims().subspan(static_cast<size_t>(axis))));
}

void DescribeGroupNormalization(LayerPlan& plan, Violations& violations) {
  const v1::GroupNormalizationLayer& layer = plan.spec.group_normalization();
  const std::string field = plan.field + ".group_normalization";
  plan.output = plan.input;
  CheckEpsilon(layer.has_epsilon(), layer.epsilon(), field, violations);
  if (plan.input.rank() == 0) {
    violations.Add(plan.field, "group_normalization needs an input with at least one axis");
    return;
  }
  const int64_t groups = layer.has_groups() ? layer.groups() : 32;
  if (groups < 1 || plan.input[0] % groups != 0) {
    violations.Add(field + ".groups",
                   absl::StrCat("is ", groups, "; must divide the input's ", plan.input[0], " channels"));
    return;
  }
  AddScaleAndCenter(plan, layer, Shape{plan.input[0]});
}

}  // namespace lockstep
