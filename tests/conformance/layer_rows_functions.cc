// SPDX-License-Identifier: Apache-2.0
// Rows of layers that keep their input's shape, and what must be refused.
#include "tests/conformance/layer_rows.h"

namespace lockstep::conformance {

// Behind 1 / deviation stand all of the numbers that it is made of. The batch has 8 samples.
std::vector<LayerRow> NormalizationRows() {
  return {
      {.kind = "batch_normalization",
       .variant = "image",
       .layer = "batch_normalization {}",
       .input = {3, 4, 5},
       .output = {3, 4, 5},
       .reduction = 160,
       .mixes_rows = true},
      {.kind = "batch_normalization",
       .variant = "vector_no_scale",
       .layer = "batch_normalization { scale: false epsilon: 0.1 }",
       .input = {7},
       .output = {7},
       .reduction = 8,
       .mixes_rows = true},
      {.kind = "batch_normalization",
       .variant = "no_center",
       .layer = "batch_normalization { center: false momentum: 0.5 epsilon: 0.01 }",
       .input = {2, 3, 2},
       .output = {2, 3, 2},
       .reduction = 48,
       .mixes_rows = true},
      {.kind = "batch_normalization",
       .variant = "frozen",
       .layer = "batch_normalization {} trainable: false",
       .input = {2, 3},
       .output = {2, 3},
       .reduction = 8},
      {.kind = "batch_normalization",
       .variant = "synchronized",
       .layer = "batch_normalization { synchronized: true momentum: 0 }",
       .input = {3, 2, 2},
       .output = {3, 2, 2},
       .reduction = 32,
       .mixes_rows = true},
      {.kind = "layer_normalization",
       .variant = "vector",
       .layer = "layer_normalization {}",
       .input = {11},
       .output = {11},
       .reduction = 11},
      {.kind = "layer_normalization",
       .variant = "middle_axis_no_center",
       .layer = "layer_normalization { axis: 1 center: false }",
       .input = {2, 3, 4},
       .output = {2, 3, 4},
       .reduction = 12},
      {.kind = "layer_normalization",
       .variant = "whole_image",
       .layer = "layer_normalization { axis: 0 epsilon: 0.1 }",
       .input = {2, 3, 3},
       .output = {2, 3, 3},
       .reduction = 18},
      {.kind = "layer_normalization",
       .variant = "bare",
       .layer = "layer_normalization { axis: -2 center: false scale: false }",
       .input = {3, 2, 5},
       .output = {3, 2, 5},
       .reduction = 10},
      {.kind = "group_normalization",
       .variant = "image",
       .layer = "group_normalization { groups: 2 }",
       .input = {4, 3, 2},
       .output = {4, 3, 2},
       .reduction = 12},
      {.kind = "group_normalization",
       .variant = "vector_no_scale",
       .layer = "group_normalization { groups: 3 scale: false }",
       .input = {15},
       .output = {15},
       .reduction = 5},
      {.kind = "group_normalization",
       .variant = "default_groups_no_center",
       .layer = "group_normalization { center: false epsilon: 0.01 }",
       .input = {32, 2, 2},
       .output = {32, 2, 2},
       .reduction = 4},
  };
}

namespace {

// The three forms of an element-wise layer: a matrix, a length that fills no vector, and an image longer
// than any vector.
void AddForms(std::vector<LayerRow>& rows, const std::string& kind, const std::vector<double>& kinks = {}) {
  const auto add = [&](const std::string& variant, const Shape& shape, double reach) {
    rows.push_back({.kind = kind,
                    .variant = variant,
                    .layer = kind + " {}",
                    .input = shape,
                    .output = shape,
                    .reach = reach,
                    .kinks = kinks});
  };
  add("matrix", {3, 5}, 1);
  add("one", {1}, 1);
  add("wide", {2, 4, 5}, 6);
}

void Add(std::vector<LayerRow>& rows, const std::string& kind, const std::string& variant,
         const std::string& attributes, const std::vector<double>& kinks = {}, double reach = 2) {
  rows.push_back({.kind = kind,
                  .variant = variant,
                  .layer = kind + " { " + attributes + " }",
                  .input = {19},
                  .output = {19},
                  .reach = reach,
                  .kinks = kinks});
}

void AddSoftmax(std::vector<LayerRow>& rows, const std::string& kind) {
  const auto add = [&](const std::string& variant, const Shape& shape, double reach) {
    rows.push_back({.kind = kind,
                    .variant = variant,
                    .layer = kind + " {}",
                    .input = shape,
                    .output = shape,
                    .reduction = shape[shape.rank() - 1],
                    .reach = reach});
  };
  add("vector", {9}, 1);
  add("one", {1}, 1);
  add("last_axis", {2, 3, 4}, 2);
  add("wide", {17}, 40);
}

}  // namespace

std::vector<LayerRow> ActivationRows() {
  std::vector<LayerRow> rows;
  AddForms(rows, "linear");
  AddForms(rows, "relu", {0});
  AddForms(rows, "leaky_relu", {0});
  Add(rows, "leaky_relu", "slope_0", "negative_slope: 0", {0});
  Add(rows, "leaky_relu", "slope_1", "negative_slope: 1");
  AddForms(rows, "elu", {0});
  Add(rows, "elu", "alpha_small", "alpha: 0.7", {0});
  Add(rows, "elu", "alpha_0", "alpha: 0", {0});
  AddForms(rows, "selu", {0});
  AddForms(rows, "gelu");
  Add(rows, "gelu", "approximate", "approximate: true");
  Add(rows, "gelu", "approximate_wide", "approximate: true", {}, 6);
  AddForms(rows, "silu");
  Add(rows, "silu", "far", "", {}, 30);
  AddForms(rows, "sigmoid");
  Add(rows, "sigmoid", "far", "", {}, 30);
  AddForms(rows, "hard_sigmoid", {-3, 3});
  AddForms(rows, "tanh");
  Add(rows, "tanh", "far", "", {}, 30);
  AddForms(rows, "softplus");
  Add(rows, "softplus", "far", "", {}, 30);
  AddSoftmax(rows, "softmax");
  AddSoftmax(rows, "log_softmax");
  return rows;
}

const std::vector<RefusedLayer>& RefusedLayers() {
  static const std::vector<RefusedLayer> rows = [] {
    const Shape image{4, 6, 6};
    std::vector<RefusedLayer> all{
        {"dense { units: 0 }", {7}, ".dense.units"},
        {"dense { units: -3 }", {7}, ".dense.units"},
        {"dense { units: 9000000000 }", {7}, ".dense.units"},
        {"dense { units: 3 activation: 'rleu' }", {7}, ".dense.activation"},
        {"dense { units: 3 activation: 'dense' }", {7}, ".dense.activation"},
        {"dense { units: 3 kernel_regularizer { l1: -1 } }", {7}, ".dense.kernel_regularizer.l1"},
        {"dense { units: 3 bias_regularizer { l2: nan } }", {7}, ".dense.bias_regularizer.l2"},
        {"dense { units: 3 }", {7, 2}, ""},
        {"conv2d { filters: 0 kernel_size: 3 }", image, ".conv2d.filters"},
        {"conv2d { filters: 4 }", image, ".conv2d.kernel_size"},
        {"conv2d { filters: 4 kernel_size: 7 }", image, ".conv2d.kernel_size"},
        {"conv2d { filters: 4 kernel_size: [3, 3, 3] }", image, ".conv2d.kernel_size"},
        {"conv2d { filters: 4 kernel_size: 3 groups: 3 }", image, ".conv2d.groups"},
        {"conv2d { filters: 3 kernel_size: 3 groups: 2 }", image, ".conv2d.groups"},
        {"conv2d { filters: 4 kernel_size: 3 strides: 0 }", image, ".conv2d.strides"},
        {"conv2d { filters: 4 kernel_size: 3 dilation_rate: -1 }", image, ".conv2d.dilation_rate"},
        {"conv2d { filters: 4 kernel_size: 3 dilation_rate: 3 }", image, ".conv2d.kernel_size"},
        {"conv2d { filters: 4 kernel_size: 3 padding: PADDING_EXPLICIT explicit_padding: 1 }", image,
         ".conv2d.explicit_padding"},
        {"conv2d { filters: 4 kernel_size: 3 padding: PADDING_EXPLICIT explicit_padding: [1, 1, -1, 1] }", image,
         ".conv2d.explicit_padding"},
        {"conv2d { filters: 4 kernel_size: 3 explicit_padding: 1 }", image, ".conv2d.explicit_padding"},
        {"conv2d { filters: 4 kernel_size: 3 activation: 'sofmax' }", image, ".conv2d.activation"},
        {"conv2d { filters: 4 kernel_size: 3 kernel_regularizer { l2: -1 } }", image, ".conv2d.kernel_regularizer.l2"},
        {"conv2d { filters: 2000000000 kernel_size: 3 }", image, ""},
        {"conv2d { filters: 4 kernel_size: 3 }", {6, 6}, ""},
        {"depthwise_conv2d {}", image, ".depthwise_conv2d.kernel_size"},
        {"depthwise_conv2d { kernel_size: 3 depth_multiplier: -2 }", image, ".depthwise_conv2d.depth_multiplier"},
        {"depthwise_conv2d { kernel_size: 3 strides: -1 }", image, ".depthwise_conv2d.strides"},
        {"depthwise_conv2d { kernel_size: 3 depthwise_regularizer { l1: -1 } }", image,
         ".depthwise_conv2d.depthwise_regularizer.l1"},
        {"depthwise_conv2d { kernel_size: 3 }", {4}, ""},
        {"max_pooling2d { pool_size: 0 }", image, ".max_pooling2d.pool_size"},
        {"max_pooling2d { pool_size: 7 }", image, ".max_pooling2d.pool_size"},
        {"max_pooling2d { strides: 0 }", image, ".max_pooling2d.strides"},
        {"max_pooling2d { padding: PADDING_EXPLICIT explicit_padding: [2, 0, 0, 0] }", image,
         ".max_pooling2d.explicit_padding"},
        {"max_pooling2d {}", {4}, ""},
        {"average_pooling2d { pool_size: [2, -2] }", image, ".average_pooling2d.pool_size"},
        {"average_pooling2d { padding: PADDING_EXPLICIT explicit_padding: [0, 0, 0, 2] }", image,
         ".average_pooling2d.explicit_padding"},
        {"average_pooling2d {}", {4, 4}, ""},
        {"global_max_pooling2d {}", {4}, ""},
        {"global_average_pooling2d {}", {4, 4}, ""},
        {"batch_normalization { momentum: 1 }", image, ".batch_normalization.momentum"},
        {"batch_normalization { momentum: -0.1 }", image, ".batch_normalization.momentum"},
        {"batch_normalization { epsilon: 0 }", image, ".batch_normalization.epsilon"},
        {"batch_normalization { epsilon: nan }", image, ".batch_normalization.epsilon"},
        {"batch_normalization {}", {}, ""},
        {"layer_normalization { axis: 3 }", image, ".layer_normalization.axis"},
        {"layer_normalization { axis: -4 }", image, ".layer_normalization.axis"},
        {"layer_normalization { epsilon: -1 }", image, ".layer_normalization.epsilon"},
        {"group_normalization {}", image, ".group_normalization.groups"},
        {"group_normalization { groups: 0 }", image, ".group_normalization.groups"},
        {"group_normalization { groups: 2 epsilon: inf }", image, ".group_normalization.epsilon"},
        {"dropout { rate: 1 }", {5}, ".dropout.rate"},
        {"dropout { rate: -0.1 }", {5}, ".dropout.rate"},
        {"dropout { rate: nan }", {5}, ".dropout.rate"},
        {"reshape {}", image, ".reshape.target_shape"},
        {"reshape { target_shape: [-1, -1] }", image, ".reshape.target_shape"},
        {"reshape { target_shape: [-1, 5] }", image, ".reshape.target_shape"},
        {"reshape { target_shape: [0, -1] }", image, ".reshape.target_shape"},
        {"reshape { target_shape: [9223372036854775807, 4] }", image, ".reshape.target_shape"},
        {"flatten {} inputs: 'inptu'", image, ".inputs[0]"},
        {"add {}", image, ".inputs"},
        {"add {} inputs: 'input'", image, ".inputs"},
        {"concatenate { axis: 3 } inputs: 'input' inputs: 'input'", image, ".concatenate.axis"},
        {"concatenate { axis: -4 } inputs: 'input' inputs: 'input'", image, ".concatenate.axis"},
        {"concatenate {} inputs: 'input'", image, ".inputs"},
        {"leaky_relu { negative_slope: -0.1 }", {5}, ".leaky_relu.negative_slope"},
        {"leaky_relu { negative_slope: nan }", {5}, ".leaky_relu.negative_slope"},
        {"elu { alpha: -1 }", {5}, ".elu.alpha"},
        {"elu { alpha: inf }", {5}, ".elu.alpha"},
        {"softmax {}", {}, ""},
        {"log_softmax {}", {}, ""},
    };
    // What takes one input takes no two.
    for (const char* kind : {"linear", "relu", "selu", "gelu", "silu", "sigmoid", "hard_sigmoid", "tanh", "softplus"}) {
      all.push_back({std::string(kind) + " {} inputs: 'input' inputs: 'input'", {5}, ".inputs"});
    }
    return all;
  }();
  return rows;
}

}  // namespace lockstep::conformance
