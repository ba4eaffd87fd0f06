// SPDX-License-Identifier: Apache-2.0
#include <set>

#include "common/model/onnx/export_onnx.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lockstep/onnx/v1/onnx.pb.h"
#include "tests/conformance/arrays.h"
#include "tests/onnx/cases.h"

namespace lockstep {
namespace {

using conformance::FromText;
using onnx_cases::Case;
using onnx_cases::Cases;
using onnx_cases::Subject;

onnx::v1::ModelProto Parse(const std::string& file) {
  onnx::v1::ModelProto model;
  EXPECT_TRUE(model.ParseFromString(file));
  return model;
}

TEST(ExportOnnx, EveryKindOfLayerHasACase) {
  std::set<std::string> known;
  for (const Case& c : Cases()) known.insert(c.kind);
#define LOCKSTEP_LAYER(kind, Name) EXPECT_TRUE(known.contains(#kind)) << #kind;
#include "common/model/registry.def"
#undef LOCKSTEP_LAYER
}

// What the checker of the format asks of a graph, without the checker.
TEST(ExportOnnx, ValuesAreMadeOnceAndBeforeTheyAreUsed) {
  for (const Case& c : Cases()) {
    const onnx::v1::ModelProto model = Parse(Subject(c).Export().value());
    std::set<std::string> made{"input"};
    for (const auto& tensor : model.graph().initializer()) {
      EXPECT_TRUE(made.insert(tensor.name()).second) << tensor.name() << " in " << c.layers;
      int64_t bytes = tensor.data_type() == onnx::v1::DATA_TYPE_FLOAT ? 4 : 8;
      for (const int64_t length : tensor.dims()) bytes *= length;
      EXPECT_EQ(static_cast<int64_t>(tensor.raw_data().size()), bytes) << tensor.name() << " in " << c.layers;
    }
    for (const auto& node : model.graph().node()) {
      for (const std::string& input : node.input()) EXPECT_TRUE(made.contains(input)) << input << " in " << c.layers;
      EXPECT_TRUE(made.insert(node.output(0)).second) << node.output(0) << " in " << c.layers;
    }
    EXPECT_TRUE(made.contains("output")) << c.layers;
  }
}

TEST(ExportOnnx, WritesTheSameBytesAgain) {
  for (const Case& c : Cases()) EXPECT_EQ(Subject(c).Export().value(), Subject(c).Export().value());
}

TEST(ExportOnnx, TheBatchHasNoFixedLength) {
  const onnx::v1::ModelProto model = Parse(Subject(Cases().back()).Export().value());
  EXPECT_EQ(model.opset_import(0).version(), kOnnxOpset);
  for (const auto& value : {model.graph().input(0), model.graph().output(0)}) {
    EXPECT_EQ(value.type().tensor_type().shape().dim(0).dim_param(), "N");
  }
}

TEST(ExportOnnx, SaysSoWhereAModelIsTooLarge) {
  Violations violations;
  const ModelPlan plan =
      PlanModel(FromText<v1::ModelSpec>("layers { dense { units: 30000 } } layers { dense { units: 30000 } }"),
                Shape{20000}, violations);
  ASSERT_TRUE(violations.empty());
  // Refused before any weights are looked at.
  const auto weights = [](const ParameterPlan&) -> absl::StatusOr<std::span<const std::byte>> {
    return absl::InternalError("not to be called");
  };
  const absl::Status status = ExportOnnx(plan, weights, {}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("safetensors"));
}

TEST(ExportOnnx, PassesOnWhatIsWrongWithTheWeights) {
  Violations violations;
  const ModelPlan plan = PlanModel(FromText<v1::ModelSpec>("layers { dense { units: 3 } }"), Shape{2}, violations);
  const auto weights = [](const ParameterPlan& p) -> absl::StatusOr<std::span<const std::byte>> {
    return absl::NotFoundError(p.name);
  };
  EXPECT_EQ(ExportOnnx(plan, weights, {}).status(), absl::NotFoundError("dense/kernel"));
}

}  // namespace
}  // namespace lockstep
