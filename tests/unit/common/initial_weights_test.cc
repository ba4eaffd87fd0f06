// SPDX-License-Identifier: Apache-2.0
#include "common/model/initial_weights.h"

#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <limits>
#include <map>

#include "google/protobuf/text_format.h"
#include "tests/unit/common/test_folder.h"

namespace lockstep {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kLayers[] =
    "layers { name: 'body' dense { units: 3 } } layers { name: 'norm' batch_normalization {} }"
    "layers { name: 'head' dense { units: 2 use_bias: false } }";

v1::ModelSpec Spec(const std::string& weights, const std::string& layers = kLayers) {
  v1::ModelSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(layers + " initial_weights {" + weights + "}", &spec));
  return spec;
}

ModelPlan Plan(const v1::ModelSpec& spec, const Shape& input = {2}) {
  Violations violations;
  ModelPlan plan = PlanModel(spec, input, violations);
  EXPECT_TRUE(violations.empty());
  return plan;
}

// "field: description" of each.
std::vector<std::string> Told(const Violations& violations) {
  std::vector<std::string> told;
  for (const Violation& v : violations.list()) told.push_back(v.field + ": " + v.description);
  return told;
}

class InitialWeightsTest : public FolderTest {
 protected:
  // float32 tensors, 0, 1, 2, ... each.
  void WriteFile(const std::map<std::string, Shape>& shapes) {
    std::map<std::string, std::vector<float>> values;
    std::vector<TensorToWrite> tensors;
    for (const auto& [name, shape] : shapes) {
      std::vector<float>& v = values[name];
      for (int64_t i = 0; i < shape.elements(); ++i) v.push_back(static_cast<float>(i));
      tensors.push_back({name, "F32", shape, std::as_bytes(std::span(v))});
    }
    ASSERT_TRUE(WriteSafetensors(Path("w.safetensors"), tensors, {}).ok());
  }
  std::vector<std::string> Check(const std::string& weights, const std::string& layers = kLayers) {
    const v1::ModelSpec spec = Spec("path: 'w.safetensors' " + weights, layers);
    Violations violations;
    CheckInitialWeights(spec, Plan(spec), {folder_}, violations);
    return Told(violations);
  }
  std::map<std::string, std::vector<float>> Read(const std::string& weights, const std::string& layers = kLayers) {
    const v1::ModelSpec spec = Spec("path: 'w.safetensors' " + weights, layers);
    const auto tensors = ReadInitialWeights(spec, Plan(spec), {folder_});
    EXPECT_TRUE(tensors.ok()) << tensors.status();
    std::map<std::string, std::vector<float>> values;
    if (!tensors.ok()) return values;
    for (const InitialTensor& t : *tensors) EXPECT_TRUE(values.emplace(t.parameter, t.values).second);
    return values;
  }

  const std::map<std::string, Shape> own_{{"body/kernel", {2, 3}},   {"body/bias", {3}},
                                          {"norm/gamma", {3}},       {"norm/beta", {3}},
                                          {"norm/moving_mean", {3}}, {"norm/moving_variance", {3}},
                                          {"head/kernel", {3, 2}}};
};

TEST_F(InitialWeightsTest, ReadsEveryTensorByItsName) {
  WriteFile(own_);
  EXPECT_THAT(Check(""), ElementsAre());
  const auto values = Read("");
  EXPECT_EQ(values.size(), own_.size());
  EXPECT_THAT(values.at("body/kernel"), ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST_F(InitialWeightsTest, WithoutTheMessageThereIsNothingToRead) {
  v1::ModelSpec spec = Spec("");
  spec.clear_initial_weights();
  EXPECT_TRUE(ReadInitialWeights(spec, Plan(spec), {folder_})->empty());
}

TEST_F(InitialWeightsTest, TurnsPytorchsLinearKernelsAndKnowsItsNames) {
  WriteFile({{"body.weight", {3, 2}},
             {"body.bias", {3}},
             {"norm.weight", {3}},
             {"norm.bias", {3}},
             {"norm.running_mean", {3}},
             {"norm.running_var", {3}},
             {"norm.num_batches_tracked", {}},
             {"head.weight", {2, 3}}});
  EXPECT_THAT(Check("names: TENSOR_NAMES_PYTORCH"), ElementsAre());
  const auto values = Read("names: TENSOR_NAMES_PYTORCH");
  EXPECT_EQ(values.size(), own_.size());
  EXPECT_THAT(values.at("body/kernel"), ElementsAre(0, 2, 4, 1, 3, 5));
  EXPECT_THAT(values.at("head/kernel"), ElementsAre(0, 3, 1, 4, 2, 5));
}

TEST_F(InitialWeightsTest, PytorchsConvolutionsAreAsTheyAreAndDotsInsideANameBecomeUnderscores) {
  WriteFile({{"net.0.conv.weight", {4, 2, 1, 3}}, {"net.0.conv.bias", {4}}});
  const std::string layers = "layers { name: 'net_0_conv' conv2d { filters: 4 kernel_size: [1, 3] } }";
  const v1::ModelSpec spec = Spec("path: 'w.safetensors' names: TENSOR_NAMES_PYTORCH", layers);
  const auto tensors = ReadInitialWeights(spec, Plan(spec, {2, 1, 3}), {folder_});
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 2u);
  EXPECT_EQ((*tensors)[0].parameter, "net_0_conv/kernel");
  for (size_t i = 0; i < 24; ++i) EXPECT_EQ((*tensors)[0].values[i], static_cast<float>(i));
}

TEST_F(InitialWeightsTest, NamesEachTensorThatIsMissingUnknownOrMisshapen) {
  auto shapes = own_;
  shapes.erase("norm/beta");
  shapes["body/kernel"] = {3, 2};
  shapes["tail/kernel"] = {1};
  WriteFile(shapes);
  EXPECT_THAT(Check(""), ElementsAre(AllOf(HasSubstr("model.initial_weights.path: w.safetensors: body/kernel"),
                                           HasSubstr("[3, 2]"), HasSubstr("[2, 3]")),
                                     HasSubstr("no tensor norm/beta [3]"), HasSubstr("has tail/kernel [1]")));
  // At the start of the job too: the file may have changed since.
  const v1::ModelSpec spec = Spec("path: 'w.safetensors'");
  EXPECT_TRUE(absl::IsInvalidArgument(ReadInitialWeights(spec, Plan(spec), {folder_}).status()));
}

TEST_F(InitialWeightsTest, ExcludedLayersMayBeMissingOrUnknown) {
  auto shapes = own_;
  shapes.erase("head/kernel");
  shapes["old_head/kernel"] = {3, 9};
  WriteFile(shapes);
  EXPECT_EQ(Check("").size(), 2u);
  EXPECT_THAT(Check("exclude_layers: ['head', 'old_head']"), ElementsAre());
  EXPECT_FALSE(Read("exclude_layers: ['head', 'old_head']").contains("head/kernel"));
  EXPECT_THAT(Check("exclude_layers: ['head', 'old_head', 'nrom']"),
              ElementsAre(AllOf(HasSubstr("exclude_layers[2]"), HasSubstr("did you mean \"norm\""))));
}

TEST_F(InitialWeightsTest, TwoTensorsOfOneParameterAreRefused) {
  WriteFile({{"a.b.weight", {2, 2}}, {"a_b.weight", {2, 2}}});
  const std::string layers = "layers { name: 'a_b' dense { units: 2 use_bias: false } }";
  EXPECT_THAT(Check("names: TENSOR_NAMES_PYTORCH", layers), ElementsAre(HasSubstr("the same parameter")));
}

TEST_F(InitialWeightsTest, RefusesFilesThatAreNoneAndPathsThatLeadOutside) {
  Write("w.safetensors", "nothing");
  EXPECT_THAT(Check(""), ElementsAre(HasSubstr("not a valid safetensors file")));
  for (const char* path : {"", "none", "../w.safetensors", "/etc/passwd", "."}) {
    const v1::ModelSpec spec = Spec(std::string("path: '") + path + "'");
    Violations violations;
    CheckInitialWeights(spec, Plan(spec), {folder_}, violations);
    EXPECT_EQ(violations.count(), 1u) << path;
    EXPECT_EQ(violations.list()[0].field, "model.initial_weights.path") << path;
  }
}

TEST_F(InitialWeightsTest, AnEnumOutOfRangeIsRefused) {
  WriteFile(own_);
  v1::ModelSpec spec = Spec("path: 'w.safetensors'");
  spec.mutable_initial_weights()->set_names(static_cast<v1::TensorNames>(9));
  Violations violations;
  CheckInitialWeights(spec, Plan(spec), {folder_}, violations);
  EXPECT_THAT(Told(violations), ElementsAre(HasSubstr("initial_weights.names")));
}

TEST_F(InitialWeightsTest, AValueThatIsNoNumberIsRefused) {
  const std::vector<float> values{1, std::numeric_limits<float>::quiet_NaN(), 3, 4};
  const std::vector<TensorToWrite> tensors{{"a/kernel", "F32", Shape{2, 2}, std::as_bytes(std::span(values))}};
  ASSERT_TRUE(WriteSafetensors(Path("w.safetensors"), tensors, {}).ok());
  const v1::ModelSpec spec = Spec("path: 'w.safetensors'", "layers { name: 'a' dense { units: 2 use_bias: false } }");
  const absl::Status status = ReadInitialWeights(spec, Plan(spec), {folder_}).status();
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("a/kernel"), HasSubstr("no finite number")));
}

TEST_F(InitialWeightsTest, OtherTypesOfNumbersBecomeFloats) {
  const auto read = [](const char* dtype, std::span<const std::byte> bytes) {
    return ToFloats({.name = "t", .dtype = dtype, .shape = {}, .bytes = bytes});
  };
  const std::vector<double> wide{0.1, -2.5};
  EXPECT_THAT(read("F64", std::as_bytes(std::span(wide))).value(), ElementsAre(0.1f, -2.5f));
  // 1, -2, the smallest subnormal, the largest number, infinity: IEEE 754's binary16.
  const std::vector<uint16_t> half{0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00};
  EXPECT_THAT(read("F16", std::as_bytes(std::span(half))).value(),
              ElementsAre(1.0f, -2.0f, std::ldexp(1.0f, -24), 65504.0f, std::numeric_limits<float>::infinity()));
  const std::vector<uint16_t> brain{0x3f80, 0xc040};
  EXPECT_THAT(read("BF16", std::as_bytes(std::span(brain))).value(), ElementsAre(1.0f, -3.0f));
  EXPECT_TRUE(absl::IsInvalidArgument(read("I64", std::as_bytes(std::span(wide))).status()));
}

}  // namespace
}  // namespace lockstep
