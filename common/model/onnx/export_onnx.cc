// SPDX-License-Identifier: Apache-2.0
#include "common/model/onnx/export_onnx.h"

#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/model/onnx/graph_builder.h"
#include "common/status_macros.h"

namespace lockstep {

namespace pb = lockstep::onnx::v1;

#define LOCKSTEP_LAYER(kind, Name) void Export##Name(OnnxLayer& layer);
#include "common/model/registry.def"
#undef LOCKSTEP_LAYER

namespace {

// What came with operators of version 17.
constexpr int64_t kIrVersion = 8;
constexpr const char* kInput = "input";
constexpr const char* kOutput = "output";
// A protobuf message's limit, less what is not weights.
constexpr int64_t kMaxWeightBytes = (int64_t{1} << 31) - (int64_t{16} << 20);

struct Exporter {
  std::string_view kind;
  void (*write)(OnnxLayer& layer);
};

constexpr Exporter kExporters[] = {
#define LOCKSTEP_LAYER(kind, Name) {#kind, Export##Name},
#include "common/model/registry.def"
#undef LOCKSTEP_LAYER
};

void SetType(pb::ValueInfoProto* value, const std::string& name, const Shape& sample) {
  value->set_name(name);
  pb::TensorTypeProto* type = value->mutable_type()->mutable_tensor_type();
  type->set_elem_type(pb::DATA_TYPE_FLOAT);
  type->mutable_shape()->add_dim()->set_dim_param("N");
  for (const int64_t length : sample.dims()) type->mutable_shape()->add_dim()->set_dim_value(length);
}

// The graph's own name for what its last layer puts out, wherever that comes from.
void NameOutput(pb::GraphProto* graph, const std::string& last) {
  pb::NodeProto* node = graph->node_size() == 0 ? nullptr : graph->mutable_node(graph->node_size() - 1);
  if (node != nullptr && node->output(0) == last) {
    node->set_output(0, kOutput);
    return;
  }
  // The last layers change nothing.
  node = graph->add_node();
  node->set_name(kOutput);
  node->set_op_type("Identity");
  node->add_input(last);
  node->add_output(kOutput);
}

absl::Status WriteGraph(const ModelPlan& plan, const WeightsOf& weights, pb::GraphProto* graph) {
  graph->set_name("model");
  SetType(graph->add_input(), kInput, plan.input);
  SetType(graph->add_output(), kOutput, plan.output);
  std::vector<std::string> values;
  for (const LayerPlan& layer : plan.layers) {
    std::vector<std::string> inputs;
    for (const int source : layer.sources) {
      inputs.push_back(source == kModelInput ? kInput : values[static_cast<size_t>(source)]);
    }
    OnnxLayer out(graph, layer, std::move(inputs), weights);
    for (const Exporter& exporter : kExporters) {
      if (exporter.kind == layer.kind) exporter.write(out);
    }
    LOCKSTEP_RETURN_IF_ERROR(out.status());
    values.push_back(out.output());
  }
  NameOutput(graph, values.empty() ? kInput : values.back());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ExportOnnx(const ModelPlan& plan, const WeightsOf& weights, const OnnxOptions& options) {
  const int64_t bytes = plan.parameter_count() * static_cast<int64_t>(sizeof(float));
  if (bytes > kMaxWeightBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the model's weights have ", bytes,
                                                   " bytes; an ONNX file of one piece holds at most ", kMaxWeightBytes,
                                                   ": use the safetensors file"));
  }
  pb::ModelProto model;
  model.set_ir_version(kIrVersion);
  model.set_producer_name("lockstep");
  model.set_doc_string(options.description);
  pb::OperatorSetIdProto* opset = model.add_opset_import();
  opset->set_domain("");
  opset->set_version(kOnnxOpset);
  for (const auto& [key, value] : options.metadata) {
    pb::StringStringEntryProto* entry = model.add_metadata_props();
    entry->set_key(key);
    entry->set_value(value);
  }
  LOCKSTEP_RETURN_IF_ERROR(WriteGraph(plan, weights, model.mutable_graph()));
  if (model.ByteSizeLong() > static_cast<size_t>(INT32_MAX)) {
    return absl::InvalidArgumentError("the model is larger than the 2 GiB of an ONNX file: use the safetensors file");
  }
  std::string file;
  if (!model.SerializeToString(&file)) return absl::InternalError("the ONNX file could not be written");
  return file;
}

}  // namespace lockstep
