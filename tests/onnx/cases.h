// SPDX-License-Identifier: Apache-2.0
// Models of every kind of layer, to be written as ONNX and run by others.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/model_plan.h"
#include "worker/nn/model.h"

namespace lockstep::onnx_cases {

struct Case {
  // The kind under test; "model" for one of many kinds.
  std::string kind;
  // ModelSpec as protobuf text.
  std::string layers;
  Shape input;
  // Terms that are added up on the way to one output, over all layers.
  int64_t terms = 1;
};

const std::vector<Case>& Cases();

// A case's model with drawn weights and moving statistics.
class Subject {
 public:
  explicit Subject(const Case& c);

  const ModelPlan& plan() const { return plan_; }
  absl::StatusOr<std::string> Export() const;
  // inputs: [rows, sample...]; at most kMaxRows rows.
  std::vector<float> Predict(std::span<const float> inputs, int64_t rows) const;
  // Drawn.
  std::vector<float> Inputs(int64_t rows) const;

  static constexpr int64_t kMaxRows = 5;

 private:
  std::unique_ptr<Device> device_;
  ModelPlan plan_;
  std::unique_ptr<Model> model_;
};

}  // namespace lockstep::onnx_cases
