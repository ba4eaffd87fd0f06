// SPDX-License-Identifier: Apache-2.0
// What the exporters of layers write with.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/model/model_plan.h"
#include "common/model/onnx/export_onnx.h"
#include "lockstep/onnx/v1/onnx.pb.h"

namespace lockstep {

// An operator of the graph; takes further attributes.
class OnnxNode {
 public:
  explicit OnnxNode(lockstep::onnx::v1::NodeProto* node) : node_(node) {}

  OnnxNode& Float(const std::string& name, double value);
  OnnxNode& Int(const std::string& name, int64_t value);
  OnnxNode& Ints(const std::string& name, const std::vector<int64_t>& values);
  // Of its output.
  const std::string& value() const { return node_->output(0); }

 private:
  lockstep::onnx::v1::NodeProto* node_;
};

// Where one layer is written. Values are known by name.
class OnnxLayer {
 public:
  OnnxLayer(lockstep::onnx::v1::GraphProto* graph, const LayerPlan& plan, std::vector<std::string> inputs,
            const WeightsOf& weights)
      : graph_(graph), plan_(plan), inputs_(std::move(inputs)), weights_(weights) {}

  const LayerPlan& plan() const { return plan_; }
  // Of its inputs.
  const std::string& x(size_t i = 0) const { return inputs_[i]; }
  size_t inputs() const { return inputs_.size(); }

  // The layer's last operator: its output is the layer's.
  OnnxNode Output(const std::string& op, const std::vector<std::string>& inputs);
  // An operator on the way there.
  OnnxNode Inner(const std::string& op, const std::vector<std::string>& inputs);
  // The layer changes nothing: its output is its input.
  void PassOn() { output_ = inputs_[0]; }

  // The parameter of this name ("kernel"), which must be in the plan. `shape`: for the file, where it is not the
  // plan's; of as many numbers.
  std::string Parameter(const std::string& name, const Shape* shape = nullptr);
  // Empty where the layer has no such parameter.
  std::string OptionalParameter(const std::string& name);
  // The parameter where the layer has it, else `shape` filled with `otherwise`.
  std::string ParameterOr(const std::string& name, const Shape& shape, float otherwise);
  std::string Number(float value) { return Fill("number", Shape{}, value); }
  std::string Axes(const std::vector<int64_t>& values);

  // Of the layer's output.
  const std::string& output() const { return output_; }
  const absl::Status& status() const { return status_; }

 private:
  lockstep::onnx::v1::NodeProto* Add(const std::string& op, const std::vector<std::string>& inputs,
                                     const std::string& output);
  std::string Fill(const std::string& what, const Shape& shape, float value);
  lockstep::onnx::v1::TensorProto* AddTensor(const std::string& name, std::span<const int64_t> dims,
                                             lockstep::onnx::v1::DataType type);
  const ParameterPlan* Find(const std::string& name) const;
  std::string Own(const std::string& what);

  lockstep::onnx::v1::GraphProto* graph_;
  const LayerPlan& plan_;
  std::vector<std::string> inputs_;
  const WeightsOf& weights_;
  std::string output_;
  absl::Status status_;
  std::map<std::string, int> taken_;
};

}  // namespace lockstep
