// SPDX-License-Identifier: Apache-2.0
// Every layer of the registry, alone.
#include "worker/nn/layer.h"

#include <map>
#include <string>
#include <vector>

#include "common/model/model_plan.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/conformance/layer_bench.h"
#include "tests/conformance/tolerance.h"

namespace lockstep::conformance {
namespace {

class LayerConformance : public testing::TestWithParam<LayerRow> {};

std::vector<double> Values(const Tensor& t) {
  std::vector<double> values;
  for (int64_t i = 0; i < t.elements(); ++i) values.push_back(Arrays::Get(t, i));
  return values;
}

TEST_P(LayerConformance, InfersItsShape) {
  const ModelPlan plan = PlanRow(GetParam(), Form::kAlone);
  EXPECT_EQ(SubjectOf(plan).kind, GetParam().kind);
  EXPECT_EQ(SubjectOf(plan).output, GetParam().output) << SubjectOf(plan).output.ToString();
}

// Single precision and double, forward and backward.
TEST_P(LayerConformance, AgreesWithTheReference) {
  for (const DType type : {DType::kF64, DType::kF32}) {
    SCOPED_TRACE(type == DType::kF64 ? "double" : "float");
    Subject s(GetParam(), type);
    s.Forward();
    s.Backward();
    s.CheckAll(s.Reference());
  }
}

// Products of rounded factors, on every device; layers without any ignore it.
TEST_P(LayerConformance, AgreesWithTheReferenceInMixedPrecision) {
  for (const ProductPrecision precision :
       {ProductPrecision::kBf16, ProductPrecision::kTf32, ProductPrecision::kFloat16}) {
    for (const TestDevice& device : Devices()) {
      SCOPED_TRACE(device.name + ", precision " + std::to_string(static_cast<int>(precision)));
      Subject s(GetParam(), DType::kF32, device);
      s.context.precision = precision;
      s.Forward();
      s.Backward();
      s.CheckAll(s.Reference());
    }
  }
}

TEST_P(LayerConformance, AgreesWithTheReferenceOutsideOfTraining) {
  for (const DType type : {DType::kF64, DType::kF32}) {
    Subject s(GetParam(), type);
    s.context.training = false;
    s.layer->Forward(s.context, s.parameters, s.x, s.y);
    s.CheckOutput(s.Reference().y);
  }
}

void CheckDifferences(Subject& s, const Tensor& values, const Tensor& gradient, const std::string& what) {
  const double terms = static_cast<double>(s.y.elements()) * s.row.reach;
  for (int64_t i = 0; i < values.elements(); ++i) {
    const double at = Arrays::Get(values, i);
    Arrays::Set(values, i, at + kDifferenceStep);
    const double above = s.Objective();
    Arrays::Set(values, i, at - kDifferenceStep);
    const double below = s.Objective();
    Arrays::Set(values, i, at);
    EXPECT_LE(RelativeError((above - below) / (2 * kDifferenceStep), Arrays::Get(gradient, i)),
              DifferenceTolerance(static_cast<int64_t>(terms)))
        << what << " at " << i;
  }
}

TEST_P(LayerConformance, GradientsAgreeWithFiniteDifferences) {
  Subject s(GetParam(), DType::kF64);
  s.Forward();
  s.Backward();
  for (size_t i = 0; i < s.x.size(); ++i) CheckDifferences(s, s.x[i], s.dx[i], "dx");
  for (size_t i = 0; i < s.parameters.size(); ++i) {
    if (!s.IsMoving(i)) CheckDifferences(s, s.parameters[i], s.gradients[i], s.plan.parameters[i].name);
  }
}

// Whoever computes a part of the batch, its rows come out the same.
TEST_P(LayerConformance, ASplitBatchHasTheSameBits) {
  if (GetParam().mixes_rows) return;
  if (!Devices()[0].splits_batches) GTEST_SKIP() << Devices()[0].name << " does not promise it";
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

// The same on a device that has done other work before.
TEST_P(LayerConformance, RepeatsHaveTheSameBits) {
  Subject a(GetParam(), DType::kF32), b(GetParam(), DType::kF32);
  a.Forward();
  a.Backward();
  for (int i = 0; i < 3; ++i) {
    b.Forward();
    b.Backward();
  }
  EXPECT_TRUE(SameBits(a.y, b.y));
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

TEST_P(LayerConformance, EveryDeviceAgreesWithTheFirst) {
  for (const DType type : {DType::kF32, DType::kF64}) {
    Subject first(GetParam(), type);
    first.Forward();
    first.Backward();
    Subject::Expected expected{.y = Values(first.y), .dx = {}, .gradients = {}};
    for (const Tensor& t : first.dx) expected.dx.push_back(Values(t));
    for (const Tensor& t : first.gradients) expected.gradients.push_back(Values(t));
    for (size_t i = 1; i < Devices().size(); ++i) {
      SCOPED_TRACE(Devices()[i].name);
      Subject other(GetParam(), type, Devices()[i]);
      other.Forward();
      other.Backward();
      other.CheckAll(expected);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Registry, LayerConformance, testing::ValuesIn(LayerRows()),
                         [](const auto& p) { return TestName(p.param); });

TEST(LayerTable, HasThreeRowsOfEveryLayerAndARefusal) {
  std::map<std::string, int> rows, refused;
  for (const LayerRow& row : LayerRows()) ++rows[row.kind];
  for (const RefusedLayer& row : RefusedLayers()) ++refused[row.layer.substr(0, row.layer.find(' '))];
  std::vector<std::string> registered{
#define LOCKSTEP_LAYER(kind, Name) #kind,
#include "common/model/registry.def"
#undef LOCKSTEP_LAYER
  };
  for (const std::string& kind : registered) {
    EXPECT_GE(rows[kind], 3) << kind << " has too few rows in layer_rows.cc";
    EXPECT_GE(refused[kind], 1) << kind << " has no refused row in layer_rows_functions.cc";
  }
  EXPECT_EQ(rows.size(), registered.size());
  EXPECT_EQ(refused.size(), registered.size());
}

TEST(LayerTable, TestsMoreThanOneDevice) {
  // Only a machine without AVX2 has one set of kernels.
  EXPECT_GE(Devices().size(), __builtin_cpu_supports("avx2") ? 2U : 1U);
}

class RefusedLayerTest : public testing::TestWithParam<RefusedLayer> {};

TEST_P(RefusedLayerTest, IsNamed) {
  v1::ModelSpec spec;
  *spec.add_layers() = FromText<v1::LayerSpec>(GetParam().layer);
  Violations violations;
  PlanModel(spec, GetParam().input, violations);
  ASSERT_FALSE(violations.empty());
  EXPECT_EQ(violations.list()[0].field, "model.layers[0]" + GetParam().field);
  EXPECT_FALSE(violations.list()[0].description.empty());
}

INSTANTIATE_TEST_SUITE_P(Table, RefusedLayerTest, testing::ValuesIn(RefusedLayers()));

}  // namespace
}  // namespace lockstep::conformance
