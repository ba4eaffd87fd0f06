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
  // Wrong specs; each must be refused with a violation that names the field given.
  std::vector<std::pair<std::string, std::string>> refused = {};
};

const std::vector<Row>& Rows() {
  static const std::vector<Row> rows{
      {"dense",
       "dense { units: 5 }",
       {7},
       7,
       {{"dense { units: 0 }", "units"},
        {"dense { units: 3 activation: 'rleu' }", "activation"},
        {"dense { units: 9000000000 }", "units"}}},
      {"dense", "dense { units: 33 use_bias: false kernel_initializer { he_uniform {} } }", {40}, 40},
      {"relu", "relu {}", {3, 5}},
      {"sigmoid", "sigmoid {}", {11}},
      {"tanh", "tanh {}", {11}},
      {"softmax", "softmax {}", {9}, 9},
      {"dropout",
       "dropout { rate: 0.4 }",
       {13},
       1,
       {{"dropout { rate: 1 }", "rate"}, {"dropout { rate: -0.1 }", "rate"}, {"dropout { rate: nan }", "rate"}}},
      {"flatten", "flatten {}", {2, 3, 4}},
  };
  return rows;
}

constexpr int64_t kBatch = 8;

// One layer with all of its arrays.
struct Subject {
  Subject(const Row& row, DType type) : device(MakeCpuDevice(1)), arrays(device.get()) {
    v1::ModelSpec spec;
    *spec.add_layers() = FromText<v1::LayerSpec>(row.layer);
    Violations violations;
    plan = PlanModel(spec, row.input, violations).layers.at(0);
    EXPECT_TRUE(violations.empty());
    layer = MakeLayer(plan);
    x = arrays.Random(Batched(kBatch, plan.input), type, 1);
    y = arrays.Zeros(Batched(kBatch, plan.output), type);
    dy = arrays.Random(y.shape, type, 2);
    dx = arrays.Zeros(x.shape, type);
    for (size_t i = 0; i < plan.parameters.size(); ++i) {
      parameters.push_back(arrays.Random(plan.parameters[i].shape, type, 3 + i));
      gradients.push_back(arrays.Zeros(plan.parameters[i].shape, type));
    }
    context = {.device = device.get(), .training = true, .seed = 9, .step = 4, .first_row = 16, .layer_index = 2};
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
  Tensor x, y, dy, dx;
  std::vector<Tensor> parameters, gradients;
  StepContext context;
};

class LayerConformance : public testing::TestWithParam<Row> {};

TEST_P(LayerConformance, GradientsAgreeWithFiniteDifferences) {
  Subject s(GetParam(), DType::kF64);
  s.Forward();
  s.Backward();
  s.CheckDifferences(s.x, s.dx, "dx");
  for (size_t i = 0; i < s.parameters.size(); ++i)
    s.CheckDifferences(s.parameters[i], s.gradients[i], s.plan.parameters[i].name);
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
  check(f.dx, d.dx, f.y.elements() / kBatch, "dx");
  for (size_t i = 0; i < f.gradients.size(); ++i) check(f.gradients[i], d.gradients[i], kBatch, "gradient");
}

// Whoever computes a part of the batch, its rows come out the same.
TEST_P(LayerConformance, ASplitBatchHasTheSameBits) {
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
        const Tensor x = RowsOf(part.x, first, rows), y = RowsOf(part.y, first, rows);
        part.layer->Forward(part.context, part.parameters, x, y);
        part.layer->Backward(part.context, part.parameters, x, y, RowsOf(part.dy, first, rows), part.gradients,
                             RowsOf(part.dx, first, rows));
      }
      EXPECT_TRUE(SameBits(whole.y, part.y)) << shards;
      EXPECT_TRUE(SameBits(whole.dx, part.dx)) << shards;
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
  EXPECT_TRUE(SameBits(a.dx, b.dx));
}

TEST_P(LayerConformance, NeedsNoInputGradient) {
  Subject a(GetParam(), DType::kF32), b(GetParam(), DType::kF32);
  b.dx = {};
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
