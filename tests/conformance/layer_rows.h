// SPDX-License-Identifier: Apache-2.0
// The table that all checks of layers run over: at least three configurations of each registry name.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "common/shape.h"

namespace lockstep::conformance {

// How far inputs stay from a kink, and pooled inputs from each other at least. Far more than the step of
// the differences.
inline constexpr double kMargin = 0.005;

struct LayerRow {
  // Registry name, and what is special about this row.
  std::string kind;
  std::string variant;
  // A LayerSpec in protobuf text, and the layers before it where it names its inputs.
  std::string layer;
  std::string before = {};
  // Shapes of one sample: the model's, and what the layer must put out.
  Shape input;
  Shape output;
  // Longest sum behind one of the layer's numbers, but for the batch.
  int64_t reduction = 1;
  // An output depends on the other samples of its micro-batch.
  bool mixes_rows = false;
  // Inputs are drawn from +-reach.
  double reach = 1.0;
  // Kinks, where a derivative does not exist and finite differences do not hold: inputs are moved away
  // from these values.
  std::vector<double> kinks = {};
  // There is a kink where two inputs are equal: inputs are all different.
  bool compares_inputs = false;
};

// "conv2d_same": how a test of the row is called.
std::string TestName(const LayerRow& row);
std::ostream& operator<<(std::ostream& out, const LayerRow& row);

const std::vector<LayerRow>& LayerRows();

// A layer that must be refused, and the field that must be named, behind "model.layers[0]".
struct RefusedLayer {
  std::string layer;
  Shape input;
  std::string field;
};
std::ostream& operator<<(std::ostream& out, const RefusedLayer& row);

const std::vector<RefusedLayer>& RefusedLayers();

// Parts of the tables.
std::vector<LayerRow> WeightRows();
std::vector<LayerRow> ShapeRows();
std::vector<LayerRow> NormalizationRows();
std::vector<LayerRow> ActivationRows();

}  // namespace lockstep::conformance
