// SPDX-License-Identifier: Apache-2.0
// A row's layer as a test needs it: alone, or as a part of a small model.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/model/model_plan.h"
#include "tests/conformance/arrays.h"
#include "tests/conformance/devices.h"
#include "tests/conformance/layer_rows.h"
#include "tests/conformance/reference.h"
#include "worker/nn/layer.h"
#include "worker/nn/model.h"

namespace lockstep::conformance {

// What surrounds the layer, which is called "subject".
enum class Form {
  // Only the layers that it names as its inputs.
  kAlone,
  // Nothing before it: its input is the samples. A view and a dense layer behind it.
  kFirst,
  // A layer with weights, the subject, an activation that may be fused into it, a view, a dense layer: each
  // output has one use.
  kChain,
  // The subject's input and its output have several uses, which meet in add and concatenate.
  kGraph,
};
lockstep::v1::ModelSpec SpecOf(const LayerRow& row, Form form);
ModelPlan PlanRow(const LayerRow& row, Form form);
const LayerPlan& SubjectOf(const ModelPlan& plan);

// Inputs of a row: `rows` samples of `shape`, none near one of the row's kinks. A float holds each exactly.
std::vector<double> RowInputs(const LayerRow& row, const Shape& shape, int64_t rows, uint64_t stream);

inline constexpr int64_t kBatch = 8;

// The layer alone, with all of its arrays.
class Subject {
 public:
  Subject(const LayerRow& row, DType type, const TestDevice& device = Devices()[0], int64_t rows = kBatch);

  void Forward();
  void Backward();
  // sum(y dy), whose gradients Backward computes.
  double Objective();
  // The moving statistics are no function of the objective's gradient.
  bool IsMoving(size_t parameter) const { return plan.parameters[parameter].moving_momentum.has_value() || frozen; }
  // How it should come out: y, one dx for each input, one gradient for each parameter.
  struct Expected {
    std::vector<double> y;
    std::vector<std::vector<double>> dx, gradients;
  };
  Expected Reference() const;
  // Fails the test where y, and after Backward the gradients, are not as expected.
  void CheckOutput(const std::vector<double>& expected) const;
  void CheckAll(const Expected& expected) const;

  const LayerRow row;
  const int64_t rows;
  std::unique_ptr<Device> device;
  Arrays arrays;
  LayerPlan plan;
  bool frozen = false;
  std::unique_ptr<Layer> layer;
  Tensor y, dy;
  std::vector<Tensor> x, dx, parameters, gradients;
  LayerContext context;
};

// The layer in a model, which is to put out three numbers.
class ModelBench {
 public:
  ModelBench(const LayerRow& row, Form form, DType type, int shards = 1);

  // The mean loss of the whole batch; its gradient stays in `gradient`.
  double Loss();
  // Of samples [first, end), as one micro-batch of the whole batch.
  double LossOf(int64_t first, int64_t end);
  // Of the whole batch in shards [bounds[i], bounds[i + 1]), which go through the model together.
  double LossTogether(const std::vector<int64_t>& bounds);
  struct Expected {
    double loss = 0;
    // As the flat array.
    std::vector<double> gradient;
  };
  Expected Reference() const;
  // Longest chain of sums from the samples to the loss, and back.
  int64_t reduction() const;

  const LayerRow row;
  std::unique_ptr<Device> device;
  Arrays arrays;
  ModelPlan plan;
  std::unique_ptr<Model> model;
  Tensor samples, targets, gradient, stats;

 private:
  StepContext Context(int64_t first) const;
  Batch Part(int64_t first, int64_t end) const;
};

}  // namespace lockstep::conformance
