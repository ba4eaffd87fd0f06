// SPDX-License-Identifier: Apache-2.0
// Each activation in ONNX's operators. The attributes that have a default are those of model.proto.
#include <numbers>

#include "common/model/onnx/graph_builder.h"

namespace lockstep {

void ExportRelu(OnnxLayer& layer) { layer.Output("Relu", {layer.x()}); }
void ExportSigmoid(OnnxLayer& layer) { layer.Output("Sigmoid", {layer.x()}); }
void ExportTanh(OnnxLayer& layer) { layer.Output("Tanh", {layer.x()}); }
void ExportSoftplus(OnnxLayer& layer) { layer.Output("Softplus", {layer.x()}); }
void ExportSoftmax(OnnxLayer& layer) { layer.Output("Softmax", {layer.x()}).Int("axis", -1); }
void ExportLogSoftmax(OnnxLayer& layer) { layer.Output("LogSoftmax", {layer.x()}).Int("axis", -1); }
void ExportSilu(OnnxLayer& layer) { layer.Output("Mul", {layer.x(), layer.Inner("Sigmoid", {layer.x()}).value()}); }

void ExportLeakyRelu(OnnxLayer& layer) {
  const v1::LeakyReluLayer& spec = layer.plan().spec.leaky_relu();
  layer.Output("LeakyRelu", {layer.x()}).Float("alpha", spec.has_negative_slope() ? spec.negative_slope() : 0.3);
}

void ExportElu(OnnxLayer& layer) {
  const v1::EluLayer& spec = layer.plan().spec.elu();
  layer.Output("Elu", {layer.x()}).Float("alpha", spec.has_alpha() ? spec.alpha() : 1.0);
}

void ExportSelu(OnnxLayer& layer) {
  layer.Output("Selu", {layer.x()}).Float("alpha", 1.67326324235437728481).Float("gamma", 1.05070098735548049342);
}

void ExportHardSigmoid(OnnxLayer& layer) {
  layer.Output("HardSigmoid", {layer.x()}).Float("alpha", 1.0 / 6.0).Float("beta", 0.5);
}

// x / 2 (1 + erf(x / sqrt(2))), or with tanh in the place of erf. Gelu is an operator only from version 20 on.
void ExportGelu(OnnxLayer& layer) {
  const std::string& x = layer.x();
  const auto number = [&](double value) { return layer.Number(static_cast<float>(value)); };
  std::string bent;
  if (layer.plan().spec.gelu().approximate()) {
    const std::string square = layer.Inner("Mul", {x, x}).value();
    const std::string cube = layer.Inner("Mul", {square, x}).value();
    const std::string small = layer.Inner("Mul", {cube, number(0.044715)}).value();
    const std::string sum = layer.Inner("Add", {x, small}).value();
    const std::string scaled =
        layer.Inner("Mul", {sum, number(std::numbers::sqrt2 * std::numbers::inv_sqrtpi)}).value();
    bent = layer.Inner("Tanh", {scaled}).value();
  } else {
    bent = layer.Inner("Erf", {layer.Inner("Div", {x, number(std::numbers::sqrt2)}).value()}).value();
  }
  const std::string share = layer.Inner("Add", {bent, number(1)}).value();
  layer.Output("Mul", {layer.Inner("Mul", {x, share}).value(), number(0.5)});
}

}  // namespace lockstep
