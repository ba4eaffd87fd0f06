// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "common/model/checks.h"
#include "common/model/layers/parameters.h"
#include "common/model/layers/window.h"

namespace lockstep {

namespace {

// The two kinds of convolution have the same fields, as have the two of pooling.
template <typename Convolution>
WindowSpec KernelWindow(const Convolution& conv, const std::string& field) {
  return {.field = field,
          .size_name = "kernel_size",
          .size = conv.kernel_size(),
          .strides = conv.strides(),
          .padding = conv.padding(),
          .explicit_padding = conv.explicit_padding(),
          .dilation_rate = &conv.dilation_rate()};
}

template <typename PoolingLayer>
WindowSpec PoolWindow(const PoolingLayer& pool, const std::string& field) {
  return {.field = field,
          .size_name = "pool_size",
          .size = pool.pool_size(),
          .strides = pool.strides(),
          .padding = pool.padding(),
          .explicit_padding = pool.explicit_padding(),
          .dilation_rate = nullptr,
          .default_size = 2,
          .stride_is_size = true,
          .bounded_padding = true};
}

// [channels, height, width] with the window's places; false where that is too large.
bool SetOutput(LayerPlan& plan, int64_t channels, const WindowPlan& window, Violations& violations) {
  const int64_t dims[] = {channels, window.output[0], window.output[1]};
  if (CheckedElements(dims, kMaxTensorElements) < 0) {
    violations.Add(plan.field, absl::StrCat("an output of ", channels, " x ", window.output[0], " x ", window.output[1],
                                            " is over the limit of ", kMaxTensorElements, " numbers"));
    return false;
  }
  plan.output = Shape(dims);
  return true;
}

// kernel: [filters, channels of a group, height, width].
struct Kernel {
  std::string name;
  int64_t filters;
  int64_t group_channels;
  const v1::InitializerSpec* initializer;
  const v1::RegularizerSpec& regularizer;
};

bool AddKernel(LayerPlan& plan, const std::string& field, const Kernel& k, const WindowPlan& window,
               Violations& violations) {
  const int64_t dims[] = {k.filters, k.group_channels, window.size[0], window.size[1]};
  if (CheckedElements(dims, kMaxTensorElements) < 0) {
    violations.Add(field, absl::StrCat("its kernel is over the limit of ", kMaxTensorElements, " numbers"));
    return false;
  }
  const int64_t place = window.size[0] * window.size[1];
  AddParameter(
      plan, {.name = k.name, .shape = Shape(dims), .fan_in = k.group_channels * place, .fan_out = k.filters * place},
      {.field = field, .initializer = k.initializer, .otherwise = GlorotUniform(), .regularizer = &k.regularizer},
      violations);
  return true;
}

}  // namespace

void DescribeConv2d(LayerPlan& plan, Violations& violations) {
  const v1::Conv2dLayer& conv = plan.spec.conv2d();
  const std::string field = plan.field + ".conv2d";
  if (!CheckImage(plan, violations)) return;
  const size_t before = violations.count();
  const WindowPlan window = PlanWindow(KernelWindow(conv, field), plan.input, violations);
  const int64_t channels = plan.input[0], groups = conv.groups() == 0 ? 1 : conv.groups();
  if (conv.filters() < 1 || conv.filters() > kMaxTensorElements) {
    violations.Add(field + ".filters", absl::StrCat("is ", conv.filters(), "; give the output's channels, at least 1"));
    return;
  }
  if (groups < 1 || channels % groups != 0 || conv.filters() % groups != 0) {
    violations.Add(field + ".groups", absl::StrCat("is ", groups, "; must divide both the input's ", channels,
                                                   " channels and the ", conv.filters(), " filters"));
  }
  if (violations.count() != before || !SetOutput(plan, conv.filters(), window, violations)) return;
  if (!AddKernel(plan, field,
                 {.name = "kernel",
                  .filters = conv.filters(),
                  .group_channels = channels / groups,
                  .initializer = conv.has_kernel_initializer() ? &conv.kernel_initializer() : nullptr,
                  .regularizer = conv.kernel_regularizer()},
                 window, violations)) {
    return;
  }
  if (conv.has_use_bias() && !conv.use_bias()) return;
  AddBias(plan, conv.filters(), field, conv.bias_initializer(), conv.bias_regularizer(), violations);
}

void DescribeDepthwiseConv2d(LayerPlan& plan, Violations& violations) {
  const v1::DepthwiseConv2dLayer& conv = plan.spec.depthwise_conv2d();
  const std::string field = plan.field + ".depthwise_conv2d";
  if (!CheckImage(plan, violations)) return;
  const size_t before = violations.count();
  const WindowPlan window = PlanWindow(KernelWindow(conv, field), plan.input, violations);
  const int64_t multiplier = conv.depth_multiplier() == 0 ? 1 : conv.depth_multiplier();
  const int64_t dims[] = {plan.input[0], multiplier};
  const int64_t filters = CheckedElements(dims, kMaxTensorElements);
  if (multiplier < 1 || filters < 0) {
    violations.Add(field + ".depth_multiplier", absl::StrCat("is ", conv.depth_multiplier(), "; must be at least 1, ",
                                                             "and small enough for the output to fit"));
  }
  if (violations.count() != before || !SetOutput(plan, filters, window, violations)) return;
  if (!AddKernel(plan, field,
                 {.name = "kernel",
                  .filters = filters,
                  .group_channels = 1,
                  .initializer = conv.has_depthwise_initializer() ? &conv.depthwise_initializer() : nullptr,
                  .regularizer = conv.depthwise_regularizer()},
                 window, violations)) {
    return;
  }
  if (conv.has_use_bias() && !conv.use_bias()) return;
  AddBias(plan, filters, field, conv.bias_initializer(), conv.bias_regularizer(), violations);
}

void DescribeMaxPooling2d(LayerPlan& plan, Violations& violations) {
  if (!CheckImage(plan, violations)) return;
  const size_t before = violations.count();
  const WindowPlan window =
      PlanWindow(PoolWindow(plan.spec.max_pooling2d(), plan.field + ".max_pooling2d"), plan.input, violations);
  if (violations.count() == before) SetOutput(plan, plan.input[0], window, violations);
}

void DescribeAveragePooling2d(LayerPlan& plan, Violations& violations) {
  if (!CheckImage(plan, violations)) return;
  const size_t before = violations.count();
  const WindowPlan window =
      PlanWindow(PoolWindow(plan.spec.average_pooling2d(), plan.field + ".average_pooling2d"), plan.input, violations);
  if (violations.count() == before) SetOutput(plan, plan.input[0], window, violations);
}

void DescribeGlobalMaxPooling2d(LayerPlan& plan, Violations& violations) {
  if (CheckImage(plan, violations)) plan.output = Shape{plan.input[0]};
}

void DescribeGlobalAveragePooling2d(LayerPlan& plan, Violations& violations) {
  if (CheckImage(plan, violations)) plan.output = Shape{plan.input[0]};
}

WindowPlan WindowOf(const LayerPlan& plan) {
  Violations none;
  switch (plan.spec.kind_case()) {
    case v1::LayerSpec::kConv2D:
      return PlanWindow(KernelWindow(plan.spec.conv2d(), ""), plan.input, none);
    case v1::LayerSpec::kDepthwiseConv2D:
      return PlanWindow(KernelWindow(plan.spec.depthwise_conv2d(), ""), plan.input, none);
    case v1::LayerSpec::kMaxPooling2D:
      return PlanWindow(PoolWindow(plan.spec.max_pooling2d(), ""), plan.input, none);
    case v1::LayerSpec::kAveragePooling2D:
      return PlanWindow(PoolWindow(plan.spec.average_pooling2d(), ""), plan.input, none);
    default:
      // The window is the whole image.
      return {.size = {plan.input[1], plan.input[2]}, .output = {1, 1}};
  }
}

}  // namespace lockstep
