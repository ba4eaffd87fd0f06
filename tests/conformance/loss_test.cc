// SPDX-License-Identifier: Apache-2.0
// Every loss against finite differences, double precision and a split batch.
#include "worker/nn/loss.h"

#include <array>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/conformance/arrays.h"
#include "tests/conformance/tolerance.h"

namespace lockstep::conformance {
namespace {

struct Row {
  std::string kind;
  std::string loss;
  // The outputs are probabilities: positive, below one.
  bool probabilities = false;
};

const std::vector<Row>& Rows() {
  static const std::vector<Row> rows{
      {"sparse_categorical_crossentropy", "sparse_categorical_crossentropy { from_logits: true }"},
      {"sparse_categorical_crossentropy", "sparse_categorical_crossentropy {}", true},
      {"mean_squared_error", "mean_squared_error {}"},
  };
  return rows;
}

constexpr int64_t kBatch = 8, kWidth = 5;
constexpr double kScale = 0.25;

struct Subject {
  Subject(const Row& row, DType type) : device(MakeCpuDevice(1)), arrays(device.get()) {
    loss = MakeLoss(FromText<v1::LossSpec>(row.loss));
    output = arrays.Random({kBatch, kWidth}, type, 1);
    if (row.probabilities) {
      for (int64_t i = 0; i < output.elements(); ++i) {
        Arrays::Set(output, i, static_cast<float>(0.5 + 0.4 * Arrays::Get(output, i)));
      }
    }
    gradient = arrays.Zeros(output.shape, type);
    targets = loss->classification() ? arrays.Labels(kBatch, kWidth) : arrays.Random(output.shape, type, 2);
    stats = arrays.Zeros({1}, DType::kF64);
  }
  double Run(bool with_gradient = true) {
    device->Fill(stats, 0);
    loss->Compute(*device, output, targets, kScale, with_gradient ? gradient : Tensor{}, stats);
    return stats.as<double>()[0];
  }

  std::unique_ptr<Device> device;
  Arrays arrays;
  std::unique_ptr<Loss> loss;
  Tensor output, gradient, targets, stats;
};

class LossConformance : public testing::TestWithParam<Row> {};

TEST_P(LossConformance, GradientAgreesWithFiniteDifferences) {
  Subject s(GetParam(), DType::kF64);
  s.Run();
  for (int64_t i = 0; i < s.output.elements(); ++i) {
    const double at = Arrays::Get(s.output, i);
    Arrays::Set(s.output, i, at + kDifferenceStep);
    const double above = s.Run(false);
    Arrays::Set(s.output, i, at - kDifferenceStep);
    const double below = s.Run(false);
    Arrays::Set(s.output, i, at);
    const double difference = kScale * (above - below) / (2 * kDifferenceStep);
    // Third derivatives of a logarithm at probabilities above 0.05 stay below 2 / 0.05^3.
    const double curvature = GetParam().probabilities ? 2.0 / (0.05 * 0.05 * 0.05) : 1.0;
    EXPECT_LE(RelativeError(difference, Arrays::Get(s.gradient, i)),
              curvature * DifferenceTolerance(s.output.elements()))
        << i;
  }
}

TEST_P(LossConformance, FloatAgreesWithDouble) {
  Subject f(GetParam(), DType::kF32), d(GetParam(), DType::kF64);
  const double a = f.Run(), b = d.Run();
  EXPECT_LE(RelativeError(a, b), Tolerance(DType::kF32, kWidth));
  for (int64_t i = 0; i < f.gradient.elements(); ++i) {
    EXPECT_LE(RelativeError(Arrays::Get(f.gradient, i), Arrays::Get(d.gradient, i)), Tolerance(DType::kF32, kWidth));
  }
}

TEST_P(LossConformance, ASplitBatchHasTheSameBits) {
  Subject whole(GetParam(), DType::kF32), part(GetParam(), DType::kF32);
  whole.Run();
  double total = 0;
  for (int64_t first = 0; first < kBatch; first += 2) {
    part.device->Fill(part.stats, 0);
    part.loss->Compute(*part.device, RowsOf(part.output, first, 2), RowsOf(part.targets, first, 2), kScale,
                       RowsOf(part.gradient, first, 2), part.stats);
    total += part.stats.as<double>()[0];
  }
  EXPECT_TRUE(SameBits(whole.gradient, part.gradient));
  EXPECT_LE(RelativeError(total, whole.stats.as<double>()[0]), Tolerance(DType::kF64, kBatch));
}

TEST_P(LossConformance, AddsToTheStatistics) {
  Subject s(GetParam(), DType::kF64);
  const double once = s.Run();
  s.loss->Compute(*s.device, s.output, s.targets, kScale, {}, s.stats);
  EXPECT_DOUBLE_EQ(s.stats.as<double>()[0], 2 * once);
}

INSTANTIATE_TEST_SUITE_P(Registry, LossConformance, testing::ValuesIn(Rows()),
                         [](const auto& p) { return p.param.kind + "_" + std::to_string(p.index); });

TEST(LossConformance, EveryLossHasARow) {
  std::set<std::string> rows, kinds;
  for (const Row& row : Rows()) rows.insert(row.kind);
  const auto* oneof = v1::LossSpec::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < oneof->field_count(); ++i) kinds.insert(oneof->field(i)->name());
  EXPECT_EQ(rows, kinds);
}

TEST(LossConformance, ALabelThatIsNoClassMakesTheLossNaN) {
  for (const Row& row : Rows()) {
    Subject s(row, DType::kF32);
    if (!s.loss->classification()) continue;
    for (const int32_t label : {-1, static_cast<int32_t>(kWidth), 1 << 30}) {
      s.targets.as<int32_t>()[3] = label;
      EXPECT_TRUE(std::isnan(s.Run())) << row.loss << " " << label;
    }
  }
}

TEST(LossConformance, LargeLogitsStayFinite) {
  Subject s(Rows()[0], DType::kF32);
  for (int64_t i = 0; i < s.output.elements(); ++i) Arrays::Set(s.output, i, 1e4 * Arrays::Get(s.output, i));
  EXPECT_TRUE(std::isfinite(s.Run()));
  for (int64_t i = 0; i < s.gradient.elements(); ++i) EXPECT_TRUE(std::isfinite(Arrays::Get(s.gradient, i)));
}

}  // namespace
}  // namespace lockstep::conformance
