// SPDX-License-Identifier: Apache-2.0
// Every layer of the registry against finite differences, double precision and a split batch.
#include "worker/nn/layer.h"

#include <set>
#include <string>
#include <vector>

#include "common/model/model_plan.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/conformance/arrays.h"
#include "tests/conformance/tolerance.h"

namespace lockstep::conformance {
namespace {

struct Row {
  std::string kind;
  // A LayerSpec in protobuf text.
  std::string layer;
  Shape input;
  // Longest sum behind one number, but for the batch.
  int64_t reduction = 1;
  // Layers before it in the job file, for a layer that names its inputs.
  std::string before = {};
  // A row's output depends on the other rows of its micro-batch.
  bool mixes_rows = false;
  // Wrong specs; each must be refused with a violation that names the field given.
  std::vector<std::pair<std::string, std::string>> refused = {};
};

const std::vector<Row>& Rows() {
  static const std::vector<Row> rows{
      {"dense",
       "dense { units: 5 }",
       {7},
       7,
       "",
       false,
       {{"dense { units: 0 }", "units"},
        {"dense { units: 3 activation: 'rleu' }", "activation"},
        {"dense { units: 9000000000 }", "units"}}},
      {"dense", "dense { units: 33 use_bias: false kernel_initializer { he_uniform {} } }", {40}, 40},
      {"conv2d",
       "conv2d { filters: 4 kernel_size: 3 }",
       {3, 6, 5},
       27,
       "",
       false,
       {{"conv2d { filters: 0 kernel_size: 3 }", "filters"},
        {"conv2d { filters: 4 }", "kernel_size"},
        {"conv2d { filters: 4 kernel_size: 7 }", "kernel_size"},
        {"conv2d { filters: 4 kernel_size: 3 groups: 2 }", "groups"},
        {"conv2d { filters: 4 kernel_size: 3 strides: 0 }", "strides"},
        {"conv2d { filters: 4 kernel_size: 3 padding: PADDING_EXPLICIT explicit_padding: 1 }", "explicit_padding"},
        {"conv2d { filters: 4 kernel_size: 3 explicit_padding: 1 }", "explicit_padding"}}},
      {"conv2d", "conv2d { filters: 6 kernel_size: [3, 2] strides: [2, 1] padding: PADDING_SAME }", {2, 7, 6}, 12},
      {"conv2d", "conv2d { filters: 4 kernel_size: 3 dilation_rate: 2 groups: 2 use_bias: false }", {4, 7, 8}, 18},
      {"conv2d",
       "conv2d { filters: 17 kernel_size: 1 padding: PADDING_EXPLICIT explicit_padding: [1, 0, 2, 1] }",
       {18, 3, 4},
       18},
      {"depthwise_conv2d", "depthwise_conv2d { kernel_size: 3 depth_multiplier: 2 }", {3, 5, 6}, 9},
      {"depthwise_conv2d", "depthwise_conv2d { kernel_size: 2 strides: 2 padding: PADDING_SAME }", {16, 5, 5}, 4},
      {"max_pooling2d", "max_pooling2d {}", {2, 6, 5}, 4},
      {"max_pooling2d", "max_pooling2d { pool_size: 3 strides: 2 padding: PADDING_SAME }", {2, 6, 5}, 9},
      {"average_pooling2d", "average_pooling2d {}", {2, 6, 5}, 4},
      {"average_pooling2d",
       "average_pooling2d { pool_size: [3, 2] strides: 2 padding: PADDING_EXPLICIT explicit_padding: [2, 1, 0, 1] }",
       {2, 6, 5},
       6},
      {"global_max_pooling2d", "global_max_pooling2d {}", {3, 4, 5}, 20},
      {"global_average_pooling2d", "global_average_pooling2d {}", {3, 4, 5}, 20},
      {"batch_normalization", "batch_normalization {}", {3, 4, 5}, 160, "", true},
      {"batch_normalization", "batch_normalization { scale: false epsilon: 0.1 }", {7}, 8, "", true},
      {"batch_normalization", "batch_normalization {} trainable: false", {7}, 8},
      {"layer_normalization", "layer_normalization {}", {11}, 11},
      {"layer_normalization", "layer_normalization { axis: 1 center: false }", {2, 3, 4}, 12},
      {"group_normalization", "group_normalization { groups: 2 }", {4, 3, 2}, 12},
      {"group_normalization", "group_normalization { groups: 3 scale: false }", {15}, 5},
      {"reshape", "reshape { target_shape: [4, -1] }", {2, 6}},
      {"add", "add {} inputs: 'input' inputs: 'a' inputs: 'input'", {5}, 3, "layers { dense { units: 5 } name: 'a' }"},
      {"concatenate", "concatenate {} inputs: 'input' inputs: 'a'", {5}, 1, "layers { dense { units: 3 } name: 'a' }"},
      {"concatenate",
       "concatenate { axis: -1 } inputs: 'input' inputs: 'a' inputs: 'input'",
       {2, 4, 3},
       1,
       "layers { conv2d { filters: 2 kernel_size: [1, 2] } name: 'a' }"},
      {"linear", "linear {}", {3, 5}},
      {"leaky_relu", "leaky_relu {}", {3, 5}},
      {"elu", "elu { alpha: 0.7 }", {3, 5}},
      {"selu", "selu {}", {3, 5}},
      {"gelu", "gelu {}", {3, 5}},
      {"gelu", "gelu { approximate: true }", {3, 5}},
      {"silu", "silu {}", {3, 5}},
      {"softplus", "softplus {}", {3, 5}},
      {"hard_sigmoid", "hard_sigmoid {}", {3, 5}},
      {"log_softmax", "log_softmax {}", {9}, 9},
      {"relu", "relu {}", {3, 5}},
      {"sigmoid", "sigmoid {}", {11}},
      {"tanh", "tanh {}", {11}},
      {"softmax", "softmax {}", {9}, 9},
      {"dropout",
       "dropout { rate: 0.4 }",
       {13},
       1,
       "",
       false,
       {{"dropout { rate: 1 }", "rate"}, {"dropout { rate: -0.1 }", "rate"}, {"dropout { rate: nan }", "rate"}}},
      {"flatten", "flatten {}", {2, 3, 4}},
  };
  return rows;
}

constexpr int64_t kBatch = 8;

// One layer with all of its arrays.
struct Subject {
  Subject(const Row& row, DType type) : device(MakeCpuDevice(1)), arrays(device.get()) {
    v1::ModelSpec spec = FromText<v1::ModelSpec>(row.before);
    *spec.add_layers() = FromText<v1::LayerSpec>(row.layer);
    Violations violations;
    plan = PlanModel(spec, row.input, violations).layers.back();
    for (const Violation& v : violations.list()) ADD_FAILURE() << v.field << " " << v.description;
    layer = MakeLayer(plan);
    for (size_t i = 0; i < plan.inputs.size(); ++i) {
      x.push_back(arrays.Random(Batched(kBatch, plan.inputs[i]), type, 20 + i));
      dx.push_back(arrays.Zeros(x.back().shape, type));
    }
    const int64_t scratch = layer->scratch_size(kBatch);
    if (scratch > 0) context.scratch = arrays.Zeros({scratch}, DType::kF64);
    y = arrays.Zeros(Batched(kBatch, plan.output), type);
    dy = arrays.Random(y.shape, type, 2);
    for (size_t i = 0; i < plan.parameters.size(); ++i) {
      parameters.push_back(arrays.Random(plan.parameters[i].shape, type, 3 + i));
      if (plan.parameters[i].name.find("moving_") != std::string::npos) device->Fill(parameters.back(), 1);
      gradients.push_back(arrays.Zeros(plan.parameters[i].shape, type));
    }
    context.device = device.get();
    context.training = true;
    context.seed = 9;
    context.step = 4;
    context.first_row = 16;
    context.layer_index = 2;
  }
  void Forward() { layer->Forward(context, parameters, x, y); }
  void Backward() { layer->Backward(context, parameters, x, y, dy, gradients, dx); }
  double Objective() {
    Forward();
    double sum = 0;
    for (int64_t i = 0; i < y.elements(); ++i) sum += Arrays::Get(y, i) * Arrays::Get(dy, i);
    return sum;
  }
  // Compares the gradient of the objective by `values` with differences.
  void CheckDifferences(const Tensor& values, const Tensor& gradient, const std::string& what) {
    for (int64_t i = 0; i < values.elements(); ++i) {
      const double at = Arrays::Get(values, i);
      Arrays::Set(values, i, at + kDifferenceStep);
      const double above = Objective();
      Arrays::Set(values, i, at - kDifferenceStep);
      const double below = Objective();
      Arrays::Set(values, i, at);
      EXPECT_LE(RelativeError((above - below) / (2 * kDifferenceStep), Arrays::Get(gradient, i)),
                DifferenceTolerance(y.elements()))
          << what << " at " << i;
    }
  }

  std::unique_ptr<Device> device;
  Arrays arrays;
  LayerPlan plan;
  std::unique_ptr<Layer> layer;
  Tensor y, dy;
  std::vector<Tensor> x, dx, parameters, gradients;
  StepContext context;
};

class LayerConformance : public testing::TestWithParam<Row> {};

TEST_P(LayerConformance, GradientsAgreeWithFiniteDifferences) {
  Subject s(GetParam(), DType::kF64);
  s.Forward();
  s.Backward();
  for (size_t i = 0; i < s.x.size(); ++i) s.CheckDifferences(s.x[i], s.dx[i], "dx");
  for (size_t i = 0; i < s.parameters.size(); ++i) {
    if (s.plan.parameters[i].name.find("moving_") != std::string::npos) continue;
    s.CheckDifferences(s.parameters[i], s.gradients[i], s.plan.parameters[i].name);
  }
}

TEST_P(LayerConformance, FloatAgreesWithDouble) {
  Subject f(GetParam(), DType::kF32), d(GetParam(), DType::kF64);
  for (Subject* s : {&f, &d}) {
    s->Forward();
    s->Backward();
  }
  const auto check = [](const Tensor& a, const Tensor& b, int64_t reduction, const std::string& what) {
    for (int64_t i = 0; i < a.elements(); ++i) {
      // Terms are products of numbers below 1.05.
      EXPECT_LE(RelativeError(Arrays::Get(a, i), Arrays::Get(b, i), static_cast<double>(reduction)),
                Tolerance(DType::kF32, reduction))
          << what << " at " << i;
    }
  };
  check(f.y, d.y, GetParam().reduction, "y");
  for (size_t i = 0; i < f.dx.size(); ++i) check(f.dx[i], d.dx[i], f.y.elements() / kBatch, "dx");
  for (size_t i = 0; i < f.gradients.size(); ++i) check(f.gradients[i], d.gradients[i], f.y.elements(), "gradient");
}

// Whoever computes a part of the batch, its rows come out the same.
TEST_P(LayerConformance, ASplitBatchHasTheSameBits) {
  if (GetParam().mixes_rows) return;
  for (const DType type : {DType::kF32, DType::kF64}) {
    Subject whole(GetParam(), type);
    whole.Forward();
    whole.Backward();
    for (const int64_t shards : {2, 4, 8}) {
      Subject part(GetParam(), type);
      const int64_t rows = kBatch / shards;
      // Last to first: no shard leans on an earlier one.
      for (int64_t first = kBatch - rows; first >= 0; first -= rows) {
        part.context.first_row = whole.context.first_row + first;
        std::vector<Tensor> x, dx;
        for (const Tensor& t : part.x) x.push_back(RowsOf(t, first, rows));
        for (const Tensor& t : part.dx) dx.push_back(RowsOf(t, first, rows));
        const Tensor y = RowsOf(part.y, first, rows);
        part.layer->Forward(part.context, part.parameters, x, y);
        part.layer->Backward(part.context, part.parameters, x, y, RowsOf(part.dy, first, rows), part.gradients, dx);
      }
      EXPECT_TRUE(SameBits(whole.y, part.y)) << shards;
      for (size_t i = 0; i < part.dx.size(); ++i) EXPECT_TRUE(SameBits(whole.dx[i], part.dx[i])) << shards;
    }
  }
}

// A shard's parameter gradient is the same on a device that has done other work before.
TEST_P(LayerConformance, RepeatsHaveTheSameBits) {
  Subject a(GetParam(), DType::kF32), b(GetParam(), DType::kF32);
  a.Forward();
  a.Backward();
  for (int i = 0; i < 3; ++i) {
    b.Forward();
    b.Backward();
  }
  for (size_t i = 0; i < a.gradients.size(); ++i) EXPECT_TRUE(SameBits(a.gradients[i], b.gradients[i]));
  for (size_t i = 0; i < a.dx.size(); ++i) EXPECT_TRUE(SameBits(a.dx[i], b.dx[i]));
}

TEST_P(LayerConformance, NeedsNoInputGradient) {
  Subject a(GetParam(), DType::kF32), b(GetParam(), DType::kF32);
  for (Tensor& dx : b.dx) dx = {};
  for (Subject* s : {&a, &b}) {
    s->Forward();
    s->Backward();
  }
  for (size_t i = 0; i < a.gradients.size(); ++i) EXPECT_TRUE(SameBits(a.gradients[i], b.gradients[i]));
}

TEST_P(LayerConformance, RefusesBadAttributes) {
  for (const auto& [text, field] : GetParam().refused) {
    v1::ModelSpec spec;
    *spec.add_layers() = FromText<v1::LayerSpec>(text);
    Violations violations;
    PlanModel(spec, GetParam().input, violations);
    ASSERT_FALSE(violations.empty()) << text;
    EXPECT_THAT(violations.list()[0].field, testing::HasSubstr("layers[0]")) << text;
    EXPECT_THAT(violations.list()[0].field, testing::HasSubstr(field)) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Registry, LayerConformance, testing::ValuesIn(Rows()),
                         [](const auto& p) { return p.param.kind + "_" + std::to_string(p.index); });

TEST(LayerConformance, EveryRegisteredLayerHasARow) {
  std::set<std::string> rows;
  for (const Row& row : Rows()) rows.insert(row.kind);
  const std::set<std::string> registered{
#define LOCKSTEP_LAYER(kind, Name) #kind,
#include "common/model/registry.def"
#undef LOCKSTEP_LAYER
  };
  EXPECT_EQ(rows, registered);
}

}  // namespace
}  // namespace lockstep::conformance
