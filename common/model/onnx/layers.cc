// SPDX-License-Identifier: Apache-2.0
// Each kind of layer in ONNX's operators. Definitions: github.com/onnx/onnx, docs/Operators.md.
#include "common/model/layers/window.h"
#include "common/model/onnx/graph_builder.h"

namespace lockstep {

namespace {

constexpr double kDefaultEpsilon = 1e-3;

template <typename Spec>
double Epsilon(const Spec& spec) {
  return spec.has_epsilon() ? spec.epsilon() : kDefaultEpsilon;
}

// Top, left, bottom, right.
std::vector<int64_t> Pads(const WindowPlan& window) {
  return {window.pad_begin[0], window.pad_begin[1], window.pad_end[0], window.pad_end[1]};
}

std::vector<int64_t> Both(const std::array<int64_t, 2>& axes) { return {axes[0], axes[1]}; }

// 0: as in the input, which is the batch.
std::vector<int64_t> BatchOf(const Shape& sample) {
  std::vector<int64_t> dims{0};
  dims.insert(dims.end(), sample.dims().begin(), sample.dims().end());
  return dims;
}

void Convolution(OnnxLayer& layer, int64_t groups) {
  const WindowPlan window = WindowOf(layer.plan());
  std::vector<std::string> inputs{layer.x(), layer.Parameter("kernel")};
  if (const std::string bias = layer.OptionalParameter("bias"); !bias.empty()) inputs.push_back(bias);
  layer.Output("Conv", inputs)
      .Ints("kernel_shape", Both(window.size))
      .Ints("strides", Both(window.stride))
      .Ints("dilations", Both(window.dilation))
      .Ints("pads", Pads(window))
      .Int("group", groups);
}

OnnxNode Pooling(OnnxLayer& layer, const std::string& op) {
  const WindowPlan window = WindowOf(layer.plan());
  return layer.Output(op, {layer.x()})
      .Ints("kernel_shape", Both(window.size))
      .Ints("strides", Both(window.stride))
      .Ints("pads", Pads(window));
}

// [N, channels, 1, 1] to [N, channels].
void GlobalPooling(OnnxLayer& layer, const std::string& op) {
  layer.Output("Flatten", {layer.Inner(op, {layer.x()}).value()}).Int("axis", 1);
}

}  // namespace

void ExportDense(OnnxLayer& layer) {
  const std::string kernel = layer.Parameter("kernel");
  const std::string bias = layer.OptionalParameter("bias");
  if (bias.empty()) {
    layer.Output("MatMul", {layer.x(), kernel});
  } else {
    layer.Output("Gemm", {layer.x(), kernel, bias});
  }
}

void ExportConv2d(OnnxLayer& layer) {
  const int64_t groups = layer.plan().spec.conv2d().groups();
  Convolution(layer, groups == 0 ? 1 : groups);
}
void ExportDepthwiseConv2d(OnnxLayer& layer) { Convolution(layer, layer.plan().input[0]); }

void ExportMaxPooling2d(OnnxLayer& layer) { Pooling(layer, "MaxPool"); }
void ExportAveragePooling2d(OnnxLayer& layer) { Pooling(layer, "AveragePool").Int("count_include_pad", 0); }
void ExportGlobalMaxPooling2d(OnnxLayer& layer) { GlobalPooling(layer, "GlobalMaxPool"); }
void ExportGlobalAveragePooling2d(OnnxLayer& layer) { GlobalPooling(layer, "GlobalAveragePool"); }

void ExportBatchNormalization(OnnxLayer& layer) {
  const Shape channels{layer.plan().input[0]};
  layer
      .Output("BatchNormalization",
              {layer.x(), layer.ParameterOr("gamma", channels, 1), layer.ParameterOr("beta", channels, 0),
               layer.Parameter("moving_mean"), layer.Parameter("moving_variance")})
      .Float("epsilon", Epsilon(layer.plan().spec.batch_normalization()));
}

void ExportLayerNormalization(OnnxLayer& layer) {
  const v1::LayerNormalizationLayer& spec = layer.plan().spec.layer_normalization();
  const Shape& input = layer.plan().input;
  const int64_t given = spec.has_axis() ? spec.axis() : -1, axis = given < 0 ? given + input.rank() : given;
  const Shape normalized(input.dims().subspan(static_cast<size_t>(axis)));
  std::vector<std::string> inputs{layer.x(), layer.ParameterOr("gamma", normalized, 1)};
  if (const std::string beta = layer.OptionalParameter("beta"); !beta.empty()) inputs.push_back(beta);
  layer.Output("LayerNormalization", inputs).Int("axis", axis + 1).Float("epsilon", Epsilon(spec));
}

// Each group becomes a channel of instance normalisation, which has no parameters of its own there.
void ExportGroupNormalization(OnnxLayer& layer) {
  const v1::GroupNormalizationLayer& spec = layer.plan().spec.group_normalization();
  const Shape& input = layer.plan().input;
  const int64_t groups = spec.has_groups() ? spec.groups() : 32;
  const std::string rows = layer.Inner("Reshape", {layer.x(), layer.Axes({0, groups, -1})}).value();
  const std::string ones = layer.ParameterOr("ones", Shape{groups}, 1);
  const std::string zeros = layer.ParameterOr("zeros", Shape{groups}, 0);
  const std::string normal =
      layer.Inner("InstanceNormalization", {rows, ones, zeros}).Float("epsilon", Epsilon(spec)).value();
  // One number for each channel, and an axis of length 1 for each that follows it.
  std::vector<int64_t> dims(static_cast<size_t>(input.rank()), 1);
  dims[0] = input[0];
  const Shape by_channel(dims);
  const bool scales = !spec.has_scale() || spec.scale(), centers = !spec.has_center() || spec.center();
  const std::vector<std::string> back{normal, layer.Axes(BatchOf(input))};
  if (!scales && !centers) {
    layer.Output("Reshape", back);
    return;
  }
  std::string y = layer.Inner("Reshape", back).value();
  if (scales) {
    const std::vector<std::string> inputs{y, layer.Parameter("gamma", &by_channel)};
    y = centers ? layer.Inner("Mul", inputs).value() : layer.Output("Mul", inputs).value();
  }
  if (centers) layer.Output("Add", {y, layer.Parameter("beta", &by_channel)});
}

void ExportDropout(OnnxLayer& layer) { layer.PassOn(); }
void ExportLinear(OnnxLayer& layer) { layer.PassOn(); }

void ExportFlatten(OnnxLayer& layer) { layer.Output("Flatten", {layer.x()}).Int("axis", 1); }
void ExportReshape(OnnxLayer& layer) { layer.Output("Reshape", {layer.x(), layer.Axes(BatchOf(layer.plan().output))}); }

void ExportAdd(OnnxLayer& layer) {
  std::string sum = layer.x();
  for (size_t i = 1; i + 1 < layer.inputs(); ++i) sum = layer.Inner("Add", {sum, layer.x(i)}).value();
  layer.Output("Add", {sum, layer.x(layer.inputs() - 1)});
}

void ExportConcatenate(OnnxLayer& layer) {
  const int64_t given = layer.plan().spec.concatenate().axis();
  const int64_t axis = given < 0 ? given + layer.plan().input.rank() : given;
  std::vector<std::string> inputs;
  for (size_t i = 0; i < layer.inputs(); ++i) inputs.push_back(layer.x(i));
  layer.Output("Concat", inputs).Int("axis", axis + 1);
}

}  // namespace lockstep
