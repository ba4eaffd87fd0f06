// SPDX-License-Identifier: Apache-2.0
#include "common/model/onnx/graph_builder.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace lockstep {

namespace pb = lockstep::onnx::v1;

OnnxNode& OnnxNode::Float(const std::string& name, double value) {
  pb::AttributeProto* attribute = node_->add_attribute();
  attribute->set_name(name);
  attribute->set_type(pb::ATTRIBUTE_TYPE_FLOAT);
  attribute->set_f(static_cast<float>(value));
  return *this;
}

OnnxNode& OnnxNode::Int(const std::string& name, int64_t value) {
  pb::AttributeProto* attribute = node_->add_attribute();
  attribute->set_name(name);
  attribute->set_type(pb::ATTRIBUTE_TYPE_INT);
  attribute->set_i(value);
  return *this;
}

OnnxNode& OnnxNode::Ints(const std::string& name, const std::vector<int64_t>& values) {
  pb::AttributeProto* attribute = node_->add_attribute();
  attribute->set_name(name);
  attribute->set_type(pb::ATTRIBUTE_TYPE_INTS);
  attribute->mutable_ints()->Add(values.begin(), values.end());
  return *this;
}

OnnxNode OnnxLayer::Output(const std::string& op, const std::vector<std::string>& inputs) {
  output_ = absl::StrCat(plan_.name, ":y");
  return OnnxNode(Add(op, inputs, output_));
}

OnnxNode OnnxLayer::Inner(const std::string& op, const std::vector<std::string>& inputs) {
  return OnnxNode(Add(op, inputs, Own(op)));
}

pb::NodeProto* OnnxLayer::Add(const std::string& op, const std::vector<std::string>& inputs,
                              const std::string& output) {
  pb::NodeProto* node = graph_->add_node();
  node->set_name(output);
  node->set_op_type(op);
  for (const std::string& input : inputs) node->add_input(input);
  node->add_output(output);
  return node;
}

// Values share one space of names with the layers; no layer's name has a colon.
std::string OnnxLayer::Own(const std::string& what) {
  const int number = taken_[what]++;
  return number == 0 ? absl::StrCat(plan_.name, ":", what) : absl::StrCat(plan_.name, ":", what, "_", number);
}

const ParameterPlan* OnnxLayer::Find(const std::string& name) const {
  for (const ParameterPlan& p : plan_.parameters) {
    if (p.name == absl::StrCat(plan_.name, "/", name)) return &p;
  }
  return nullptr;
}

pb::TensorProto* OnnxLayer::AddTensor(const std::string& name, std::span<const int64_t> dims, pb::DataType type) {
  pb::TensorProto* tensor = graph_->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(type);
  tensor->mutable_dims()->Add(dims.begin(), dims.end());
  return tensor;
}

std::string OnnxLayer::Parameter(const std::string& name, const Shape* shape) {
  const ParameterPlan* parameter = Find(name);
  absl::StatusOr<std::span<const std::byte>> bytes =
      parameter == nullptr ? absl::InternalError(absl::StrCat("no parameter ", plan_.name, "/", name))
                           : weights_(*parameter);
  if (!bytes.ok()) {
    if (status_.ok()) status_ = bytes.status();
    return "";
  }
  pb::TensorProto* tensor =
      AddTensor(parameter->name, (shape == nullptr ? parameter->shape : *shape).dims(), pb::DATA_TYPE_FLOAT);
  tensor->set_raw_data(bytes->data(), bytes->size());
  return parameter->name;
}

std::string OnnxLayer::OptionalParameter(const std::string& name) {
  return Find(name) == nullptr ? "" : Parameter(name);
}

std::string OnnxLayer::ParameterOr(const std::string& name, const Shape& shape, float otherwise) {
  return Find(name) == nullptr ? Fill(name, shape, otherwise) : Parameter(name);
}

std::string OnnxLayer::Fill(const std::string& what, const Shape& shape, float value) {
  const std::vector<float> values(static_cast<size_t>(shape.elements()), value);
  pb::TensorProto* tensor = AddTensor(Own(what), shape.dims(), pb::DATA_TYPE_FLOAT);
  tensor->set_raw_data(values.data(), values.size() * sizeof(float));
  return tensor->name();
}

std::string OnnxLayer::Axes(const std::vector<int64_t>& values) {
  const int64_t dims[] = {static_cast<int64_t>(values.size())};
  pb::TensorProto* tensor = AddTensor(Own("shape"), dims, pb::DATA_TYPE_INT64);
  tensor->set_raw_data(values.data(), values.size() * sizeof(int64_t));
  return tensor->name();
}

}  // namespace lockstep
