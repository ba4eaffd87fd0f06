// SPDX-License-Identifier: Apache-2.0
// Every layer of the registry inside small models: what the graph fuses, shares and adds up must change
// nothing.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "tests/conformance/layer_bench.h"
#include "tests/conformance/tolerance.h"

namespace lockstep::conformance {
namespace {

class ModelConformance : public testing::TestWithParam<std::tuple<LayerRow, Form>> {
 protected:
  const LayerRow& row() const { return std::get<0>(GetParam()); }
  ModelBench Bench(DType type, int shards = 1) const { return {row(), std::get<1>(GetParam()), type, shards}; }
};

// Moving statistics have no gradient: their places carry the batch's statistics.
template <typename Check>
void ForGradients(const ModelBench& bench, Check check) {
  for (const ParameterView& view : bench.model->parameter_views()) {
    if (view.moving_momentum.has_value()) continue;
    for (int64_t i = 0; i < view.shape.elements(); ++i) check(view, i);
  }
}

double Largest(const std::vector<double>& values) {
  double largest = 0;
  for (const double v : values) largest = std::max(largest, std::abs(v));
  return largest;
}

// Single precision and double.
TEST_P(ModelConformance, AgreesWithTheReference) {
  for (const DType type : {DType::kF64, DType::kF32}) {
    SCOPED_TRACE(type == DType::kF64 ? "double" : "float");
    ModelBench bench = Bench(type);
    const ModelBench::Expected expected = bench.Reference();
    const double tolerance = Tolerance(type, bench.reduction());
    EXPECT_LE(RelativeError(bench.Loss(), expected.loss, row().reach), tolerance);
    const double scale = std::max(row().reach, Largest(expected.gradient));
    int trained = 0;
    ForGradients(bench, [&](const ParameterView& view, int64_t i) {
      const double want = expected.gradient[static_cast<size_t>(view.offset + i)];
      EXPECT_LE(RelativeError(Arrays::Get(bench.gradient, view.offset + i), want, scale), tolerance)
          << view.name << "[" << i << "]";
      trained += want != 0 ? 1 : 0;
    });
    EXPECT_GT(trained, 0);
  }
}

TEST_P(ModelConformance, GradientsAgreeWithFiniteDifferences) {
  // Places of each tensor that are tried.
  constexpr int64_t kPlaces = 6;
  ModelBench bench = Bench(DType::kF64);
  bench.Loss();
  std::vector<double> gradient;
  for (int64_t i = 0; i < bench.gradient.elements(); ++i) gradient.push_back(Arrays::Get(bench.gradient, i));
  const double tolerance = DifferenceTolerance(bench.reduction()) * std::max(1.0, row().reach);
  ForGradients(bench, [&](const ParameterView& view, int64_t i) {
    const int64_t stride = (view.shape.elements() + kPlaces - 1) / kPlaces;
    if (i % stride != 0 || !view.trainable) return;
    const Tensor parameters = bench.model->parameters();
    const double at = Arrays::Get(parameters, view.offset + i);
    Arrays::Set(parameters, view.offset + i, at + kDifferenceStep);
    const double above = bench.Loss();
    Arrays::Set(parameters, view.offset + i, at - kDifferenceStep);
    const double below = bench.Loss();
    Arrays::Set(parameters, view.offset + i, at);
    EXPECT_LE(RelativeError(gradient[static_cast<size_t>(view.offset + i)], (above - below) / (2 * kDifferenceStep)),
              tolerance)
        << view.name << "[" << i << "]";
  });
}

// What depends on the place in the batch (dropout) depends on nothing else.
TEST_P(ModelConformance, ShardsAddUpToTheBatch) {
  ModelBench whole = Bench(DType::kF64);
  const bool together = whole.model->needs_whole_batch();
  if (row().mixes_rows && !together) return;
  const double loss = whole.Loss();
  for (const int shards : {2, 8}) {
    ModelBench parts = Bench(DType::kF64, shards);
    std::vector<double> sum(static_cast<size_t>(whole.gradient.elements()), 0.0);
    double sum_loss = 0;
    const auto add = [&](double part) {
      sum_loss += part;
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += Arrays::Get(parts.gradient, static_cast<int64_t>(i));
    };
    const int64_t rows = kBatch / shards;
    std::vector<int64_t> bounds;
    for (int64_t first = 0; first <= kBatch; first += rows) bounds.push_back(first);
    if (together) add(parts.LossTogether(bounds));
    for (int64_t first = 0; !together && first < kBatch; first += rows) add(parts.LossOf(first, first + rows));
    const double tolerance = Tolerance(DType::kF64, whole.reduction());
    EXPECT_LE(RelativeError(sum_loss, loss, row().reach), tolerance);
    for (size_t i = 0; i < sum.size(); ++i) {
      EXPECT_LE(RelativeError(sum[i], Arrays::Get(whole.gradient, static_cast<int64_t>(i)), row().reach), tolerance)
          << i;
    }
  }
}

TEST_P(ModelConformance, RepeatsHaveTheSameBits) {
  ModelBench one = Bench(DType::kF32), two = Bench(DType::kF32);
  const double first = one.Loss();
  EXPECT_EQ(one.Loss(), first);
  EXPECT_EQ(two.Loss(), first);
  EXPECT_TRUE(SameBits(one.gradient, two.gradient));
}

TEST_P(ModelConformance, PaddingStaysZero) {
  ModelBench bench = Bench(DType::kF32);
  bench.device->Fill(bench.gradient, 1);
  bench.Loss();
  std::vector<bool> used(static_cast<size_t>(bench.gradient.elements()));
  for (const ParameterView& view : bench.model->parameter_views()) {
    EXPECT_EQ(view.offset % 16, 0);
    for (int64_t i = 0; i < view.shape.elements(); ++i) used[static_cast<size_t>(view.offset + i)] = true;
  }
  for (size_t i = 0; i < used.size(); ++i) {
    if (used[i]) continue;
    EXPECT_EQ(Arrays::Get(bench.gradient, static_cast<int64_t>(i)), 0.0) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Registry, ModelConformance,
                         testing::Combine(testing::ValuesIn(LayerRows()),
                                          testing::Values(Form::kFirst, Form::kChain, Form::kGraph)),
                         [](const auto& p) {
                           const Form form = std::get<1>(p.param);
                           return TestName(std::get<0>(p.param)) + (form == Form::kFirst   ? "_first"
                                                                    : form == Form::kChain ? "_chain"
                                                                                           : "_graph");
                         });

// Losses that do the last layer's work, and the same layers in front of one that does not.
struct LossCase {
  std::string name;
  std::string head;
  std::string loss;
  int64_t classes = 4;
};
std::ostream& operator<<(std::ostream& out, const LossCase& c) { return out << c.head << " with " << c.loss; }

class LossInModel : public testing::TestWithParam<LossCase> {};

TEST_P(LossInModel, GradientsAgreeWithFiniteDifferences) {
  const auto device = MakeTestDevice();
  Arrays arrays(device.get());
  Violations violations;
  const auto spec = FromText<v1::ModelSpec>("layers { dense { units: 6 activation: 'tanh' } } " + GetParam().head);
  const ModelPlan plan = PlanModel(spec, Shape{5}, violations);
  ASSERT_TRUE(violations.empty());
  const auto model = Model::Create(device.get(), plan, FromText<v1::LossSpec>(GetParam().loss), DType::kF64, kBatch);
  (*model)->Initialize(1);
  const Tensor x = arrays.Random({kBatch, 5}, DType::kF64, 1), labels = arrays.Labels(kBatch, GetParam().classes);
  const Tensor gradient = arrays.Zeros((*model)->parameters().shape, DType::kF64);
  const Tensor stats = arrays.Zeros({(*model)->stats_width()}, DType::kF64);
  const auto loss = [&] {
    device->Fill(stats, 0);
    (*model)->ForwardBackward({.training = true}, {x, labels, kBatch}, 1.0 / kBatch, gradient, stats, nullptr);
    return stats.as<double>()[0] / kBatch;
  };
  loss();
  std::vector<double> expected(gradient.as<double>(), gradient.as<double>() + gradient.elements());
  for (const ParameterView& view : (*model)->parameter_views()) {
    for (int64_t i = view.offset; i < view.offset + view.shape.elements(); ++i) {
      double* value = (*model)->parameters().as<double>() + i;
      const double at = *value;
      *value = at + kDifferenceStep;
      const double above = loss();
      *value = at - kDifferenceStep;
      const double below = loss();
      *value = at;
      EXPECT_LE(RelativeError((above - below) / (2 * kDifferenceStep), expected[static_cast<size_t>(i)]),
                DifferenceTolerance(kBatch * 11))
          << view.name;
    }
  }
}

const char kDense4[] = "layers { dense { units: 4 } } ";
INSTANTIATE_TEST_SUITE_P(
    Heads, LossInModel,
    testing::Values(LossCase{"logits", kDense4, "sparse_categorical_crossentropy { from_logits: true }"},
                    LossCase{"softmax", std::string(kDense4) + "layers { softmax {} }",
                             "sparse_categorical_crossentropy {}"},
                    LossCase{"activation", "layers { dense { units: 4 activation: 'softmax' } }",
                             "sparse_categorical_crossentropy {}"},
                    LossCase{"softmax_and_more", std::string(kDense4) + "layers { softmax {} } layers { dropout {} }",
                             "sparse_categorical_crossentropy {}"},
                    LossCase{"weighted", "layers { dense { units: 4 activation: 'softmax' } }",
                             "sparse_categorical_crossentropy { label_smoothing: 0.1 class_weights: [1, 2, 0.5, 3] }"},
                    LossCase{"sigmoid", "layers { dense { units: 1 activation: 'sigmoid' } }",
                             "binary_crossentropy { label_smoothing: 0.1 }", 2}),
    [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace lockstep::conformance
