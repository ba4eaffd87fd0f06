// SPDX-License-Identifier: Apache-2.0
#include "tests/onnx/cases.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/model/onnx/export_onnx.h"
#include "common/rng.h"
#include "tests/conformance/arrays.h"

namespace lockstep::onnx_cases {

namespace {

constexpr uint64_t kSeed = 21;

// A draw in [-1, 1).
float Draw(uint64_t stream, uint64_t index) {
  return static_cast<float>(2.0 * RngStream{kSeed, RngPurpose::kSynthetic, stream}.Uniform(index) - 1.0);
}

const ParameterView& ViewOf(const Model& model, const std::string& name) {
  return *std::ranges::find(model.parameter_views(), name, &ParameterView::name);
}

constexpr char kLeNet[] =
    "layers { reshape { target_shape: [1, 12, 12] } }"
    "layers { conv2d { filters: 4 kernel_size: 3 padding: PADDING_SAME activation: 'relu' } }"
    "layers { max_pooling2d {} } layers { conv2d { filters: 6 kernel_size: 3 activation: 'tanh' } }"
    "layers { average_pooling2d {} } layers { flatten {} } layers { dropout { rate: 0.5 } }"
    "layers { name: 'output' dense { units: 10 activation: 'softmax' } }";

constexpr char kResidual[] =
    "layers { name: 'stem' conv2d { filters: 8 kernel_size: 3 padding: PADDING_SAME use_bias: false } }"
    "layers { batch_normalization {} } layers { name: 'a' relu {} }"
    "layers { conv2d { filters: 8 kernel_size: 3 padding: PADDING_SAME use_bias: false } }"
    "layers { name: 'b' batch_normalization {} } layers { name: 'sum' add {} inputs: 'a' inputs: 'b' }"
    "layers { name: 'c' depthwise_conv2d { kernel_size: 3 padding: PADDING_SAME activation: 'silu' } }"
    "layers { concatenate {} inputs: 'sum' inputs: 'c' } layers { group_normalization { groups: 4 } }"
    "layers { global_average_pooling2d {} } layers { dense { units: 5 } }";

// With a name for each input of what is behind them.
constexpr char kThree[] =
    "layers { name: 'a' dense { units: 5 activation: 'relu' } }"
    "layers { name: 'b' dense { units: 5 } inputs: 'input' }";

}  // namespace

const std::vector<Case>& Cases() {
  static const std::vector<Case> cases{
      {"dense", "layers { dense { units: 5 } }", {7}, 8},
      {"dense", "layers { dense { units: 5 use_bias: false activation: 'gelu' } }", {7}, 7},
      {"conv2d", "layers { conv2d { filters: 4 kernel_size: 3 } }", {3, 6, 7}, 28},
      {"conv2d",
       "layers { conv2d { filters: 4 kernel_size: [3, 2] strides: 2 padding: PADDING_SAME } }",
       {3, 7, 6},
       19},
      {"conv2d",
       "layers { conv2d { filters: 6 kernel_size: 2 padding: PADDING_EXPLICIT explicit_padding: [1, 0, 2, 3] groups: 2 "
       "dilation_rate: [2, 1] use_bias: false activation: 'softplus' } }",
       {4, 6, 5},
       8},
      {"depthwise_conv2d", "layers { depthwise_conv2d { kernel_size: 3 depth_multiplier: 2 } }", {3, 5, 6}, 10},
      {"max_pooling2d", "layers { max_pooling2d {} }", {2, 6, 5}},
      {"max_pooling2d", "layers { max_pooling2d { pool_size: 3 strides: 2 padding: PADDING_SAME } }", {2, 6, 5}},
      {"average_pooling2d",
       "layers { average_pooling2d { pool_size: 3 strides: 2 padding: PADDING_SAME } }",
       {2, 6, 5},
       9},
      {"average_pooling2d",
       "layers { average_pooling2d { pool_size: [3, 2] strides: 2 padding: PADDING_EXPLICIT "
       "explicit_padding: [2, 1, 0, 1] } }",
       {2, 6, 5},
       6},
      {"global_max_pooling2d", "layers { global_max_pooling2d {} }", {3, 4, 5}},
      {"global_average_pooling2d", "layers { global_average_pooling2d {} }", {3, 4, 5}, 20},
      {"batch_normalization", "layers { batch_normalization {} }", {3, 4, 5}},
      {"batch_normalization", "layers { batch_normalization { scale: false epsilon: 0.1 } }", {7}},
      {"batch_normalization", "layers { batch_normalization { center: false } }", {2, 3}},
      {"layer_normalization", "layers { layer_normalization {} }", {3, 11}, 11},
      {"layer_normalization", "layers { layer_normalization { axis: 1 center: false epsilon: 0.01 } }", {2, 3, 4}, 12},
      {"layer_normalization", "layers { layer_normalization { axis: -2 scale: false } }", {2, 3, 4}, 12},
      {"group_normalization", "layers { group_normalization { groups: 2 } }", {4, 3, 2}, 12},
      {"group_normalization", "layers { group_normalization { groups: 3 scale: false } }", {15}, 5},
      {"group_normalization", "layers { group_normalization { groups: 2 scale: false center: false } }", {4, 3}, 6},
      {"dropout", "layers { dropout { rate: 0.4 } }", {13}},
      {"dropout", "layers { dense { units: 4 } } layers { dropout { rate: 0.4 } }", {3}, 4},
      {"flatten", "layers { flatten {} }", {2, 3, 4}},
      {"reshape", "layers { reshape { target_shape: [4, -1] } }", {2, 6}},
      {"add", absl::StrCat(kThree, "layers { add {} inputs: 'a' inputs: 'b' inputs: 'a' }"), {5}, 18},
      {"concatenate",
       absl::StrCat(kThree, "layers { concatenate {} inputs: 'b' inputs: 'input' inputs: 'a' }"),
       {6},
       7},
      {"concatenate",
       "layers { name: 'a' conv2d { filters: 2 kernel_size: [1, 2] } }"
       "layers { concatenate { axis: -1 } inputs: 'input' inputs: 'a' }",
       {2, 4, 3},
       5},
      {"linear", "layers { linear {} }", {3, 5}},
      {"relu", "layers { relu {} }", {3, 5}},
      {"leaky_relu", "layers { leaky_relu {} }", {3, 5}},
      {"leaky_relu", "layers { leaky_relu { negative_slope: 0.05 } }", {3, 5}},
      {"elu", "layers { elu {} }", {3, 5}},
      {"elu", "layers { elu { alpha: 0.7 } }", {3, 5}},
      {"selu", "layers { selu {} }", {3, 5}},
      {"gelu", "layers { gelu {} }", {3, 5}},
      {"gelu", "layers { gelu { approximate: true } }", {3, 5}},
      {"silu", "layers { silu {} }", {3, 5}},
      {"sigmoid", "layers { sigmoid {} }", {3, 5}},
      // Beyond both of its kinks, which are at -3 and 3.
      {"hard_sigmoid", "layers { dense { units: 9 } } layers { hard_sigmoid {} }", {12}, 13},
      {"tanh", "layers { tanh {} }", {3, 5}},
      {"softplus", "layers { softplus {} }", {3, 5}},
      {"softmax", "layers { softmax {} }", {3, 5}, 5},
      {"log_softmax", "layers { log_softmax {} }", {9}, 9},
      {"model", kLeNet, {12, 12}, 9 + 36 + 4 + 216 + 10},
      {"model", kResidual, {3, 8, 8}, 27 + 72 + 9 + 16 * 16 + 64 + 16},
  };
  return cases;
}

Subject::Subject(const Case& c) : device_(MakeCpuDevice(1)) {
  Violations violations;
  plan_ = PlanModel(conformance::FromText<v1::ModelSpec>(c.layers), c.input, violations);
  v1::LossSpec loss;
  loss.mutable_mean_squared_error();
  model_ = Model::Create(device_.get(), plan_, loss, DType::kF32, kMaxRows).value();
  uint64_t stream = 1;
  for (const ParameterView& view : model_->parameter_views()) {
    float* values = model_->parameters().as<float>() + view.offset;
    const bool positive = absl::EndsWith(view.name, "/moving_variance");
    for (int64_t i = 0; i < view.shape.elements(); ++i) {
      const float value = Draw(stream, static_cast<uint64_t>(i));
      values[i] = positive ? 1.25f + 0.5f * value : value;
    }
    ++stream;
  }
}

absl::StatusOr<std::string> Subject::Export() const {
  const auto weights = [&](const ParameterPlan& p) -> absl::StatusOr<std::span<const std::byte>> {
    const float* values = model_->parameters().as<float>() + ViewOf(*model_, p.name).offset;
    return std::as_bytes(std::span(values, static_cast<size_t>(p.shape.elements())));
  };
  return ExportOnnx(plan_, weights, {.metadata = {{"preprocessing", "none"}}, .description = "a test"});
}

std::vector<float> Subject::Inputs(int64_t rows) const {
  std::vector<float> inputs(static_cast<size_t>(rows * plan_.input.elements()));
  for (size_t i = 0; i < inputs.size(); ++i) inputs[i] = 2.0f * Draw(0, i);
  return inputs;
}

std::vector<float> Subject::Predict(std::span<const float> inputs, int64_t rows) const {
  conformance::Arrays arrays(device_.get());
  Batch batch{
      .inputs = arrays.Zeros(conformance::Batched(rows, plan_.input), DType::kF32), .targets = {}, .rows = rows};
  std::ranges::copy(inputs, batch.inputs.as<float>());
  const Tensor y = model_->Predict(batch);
  return {y.as<float>(), y.as<float>() + rows * plan_.output.elements()};
}

}  // namespace lockstep::onnx_cases
