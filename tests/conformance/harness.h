// SPDX-License-Identifier: Apache-2.0
// One harness for every layer and loss: a row says what to build, the harness checks it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/model/model_plan.h"
#include "lockstep/v1/loss.pb.h"
#include "lockstep/v1/model.pb.h"
#include "worker/device/device.h"
#include "worker/nn/model.h"

namespace lockstep::conformance {

// A small model around the thing under test, in the job file's words (JSON).
struct Row {
  // Registry name of the layer or loss.
  std::string name;
  // Tells rows of one name apart.
  std::string variant;
  std::string layers;
  std::string loss;
  Shape input;
  int64_t rows = 3;
};

// One row per registry name at least; a test holds this against the registry.
const std::vector<Row>& LayerRows();
const std::vector<Row>& LossRows();

// A model of the row with inputs, targets and a gradient buffer of its own, in either precision.
class Bench {
 public:
  Bench(const Row& row, DType type);

  Model& model() { return *model_; }
  int64_t elements() { return model_->parameters().elements(); }
  // Numbers of the batch, so that a test can move one.
  std::vector<double>& inputs() { return inputs_; }
  double parameter(int64_t i);
  void set_parameter(int64_t i, double value);

  // Loss and gradient of rows [first, end) as part of a batch of row.rows: the mean's share.
  double Loss(int64_t first, int64_t end, std::vector<double>* gradient);
  double Loss(std::vector<double>* gradient) { return Loss(0, row_.rows, gradient); }

 private:
  Tensor Take(const Shape& shape, DType type);

  Row row_;
  DType type_;
  std::unique_ptr<Device> device_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::unique_ptr<Model> model_;
  std::vector<double> inputs_;
  Tensor input_, targets_, gradient_, stats_;
  bool classification_ = false;
  int64_t target_width_ = 1;
};

// What two ways of computing one value may differ by, as a share of the largest value: the unit
// roundoff of the type times the length of the longest sum and a small factor for the functions.
double Tolerance(DType type, int64_t reduction_length);

}  // namespace lockstep::conformance
