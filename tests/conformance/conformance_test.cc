// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>

#include "tests/conformance/harness.h"

namespace lockstep::conformance {
namespace {

std::vector<Row> AllRows() {
  std::vector<Row> rows = LayerRows();
  rows.insert(rows.end(), LossRows().begin(), LossRows().end());
  return rows;
}

std::set<std::string> Names(const std::vector<Row>& rows) {
  std::set<std::string> names;
  for (const Row& row : rows) names.insert(row.name);
  return names;
}

TEST(CompletenessTest, EveryLayerHasARow) {
  const std::set<std::string> rows = Names(LayerRows());
#define LOCKSTEP_LAYER(kind, Name) EXPECT_TRUE(rows.contains(#kind)) << "no conformance row for layer " #kind;
#include "common/model/registry.def"
#undef LOCKSTEP_LAYER
}

TEST(CompletenessTest, EveryLossHasARow) {
  const std::set<std::string> rows = Names(LossRows());
  const auto* kinds = v1::LossSpec::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < kinds->field_count(); ++i) {
    EXPECT_TRUE(rows.contains(kinds->field(i)->name())) << "no conformance row for loss " << kinds->field(i)->name();
  }
}

class ConformanceTest : public ::testing::TestWithParam<Row> {};

// Central differences in double precision. With h = 1e-5 the truncation error is about h^2 = 1e-10 and
// the rounding error about epsilon / h = 2e-11, both relative to values of about 1.
TEST_P(ConformanceTest, GradientsAgreeWithFiniteDifferences) {
  constexpr double kStep = 1e-5, kTolerance = 2e-8;
  Bench bench(GetParam(), DType::kF64);
  std::vector<double> gradient;
  bench.Loss(&gradient);
  int checked = 0;
  for (const ParameterView& view : bench.model().parameter_views()) {
    for (int64_t i = view.offset; i < view.offset + view.shape.elements(); ++i) {
      double* value = bench.model().parameters().as<double>() + i;
      const double middle = *value;
      *value = middle + kStep;
      const double above = bench.Loss(nullptr);
      *value = middle - kStep;
      const double below = bench.Loss(nullptr);
      *value = middle;
      const double expected = (above - below) / (2 * kStep);
      EXPECT_NEAR(gradient[static_cast<size_t>(i)], expected, kTolerance * std::max(1.0, std::abs(expected)))
          << view.name << "[" << i - view.offset << "]";
      ++checked;
    }
  }
  EXPECT_GT(checked, 0);
}

TEST_P(ConformanceTest, SinglePrecisionAgreesWithDouble) {
  Bench exact(GetParam(), DType::kF64), single(GetParam(), DType::kF32);
  std::vector<double> exact_gradient, single_gradient;
  const double exact_loss = exact.Loss(&exact_gradient);
  const double single_loss = single.Loss(&single_gradient);
  const double tolerance = Tolerance(DType::kF32, 64);
  EXPECT_NEAR(single_loss, exact_loss, tolerance * std::max(1.0, exact_loss));
  ASSERT_EQ(exact_gradient.size(), single_gradient.size());
  double largest = 0;
  for (double g : exact_gradient) largest = std::max(largest, std::abs(g));
  EXPECT_GT(largest, 0);
  for (size_t i = 0; i < exact_gradient.size(); ++i) {
    EXPECT_NEAR(single_gradient[i], exact_gradient[i], tolerance * std::max(1.0, largest)) << i;
  }
}

// The shards of a batch together have the batch's gradient: what depends on the place in the batch
// (dropout) depends on nothing else.
TEST_P(ConformanceTest, ShardsAddUpToTheBatch) {
  Bench bench(GetParam(), DType::kF64);
  std::vector<double> whole, part;
  const double loss = bench.Loss(&whole);
  std::vector<double> sum(whole.size(), 0.0);
  double sum_loss = 0;
  for (int64_t row = 0; row < GetParam().rows; ++row) {
    sum_loss += bench.Loss(row, row + 1, &part);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
  }
  EXPECT_NEAR(sum_loss, loss, 1e-12);
  for (size_t i = 0; i < sum.size(); ++i) EXPECT_NEAR(sum[i], whole[i], 1e-12);
}

TEST_P(ConformanceTest, TheSameInputsGiveTheSameBits) {
  Bench one(GetParam(), DType::kF32), two(GetParam(), DType::kF32);
  std::vector<double> first, second;
  one.Loss(&first);
  one.Loss(&first);
  two.Loss(&second);
  EXPECT_EQ(std::memcmp(first.data(), second.data(), first.size() * sizeof(double)), 0);
}

TEST_P(ConformanceTest, PaddingStaysZero) {
  Bench bench(GetParam(), DType::kF32);
  std::vector<double> gradient;
  bench.Loss(&gradient);
  std::vector<bool> used(gradient.size());
  for (const ParameterView& view : bench.model().parameter_views()) {
    EXPECT_EQ(view.offset % 16, 0);
    for (int64_t i = 0; i < view.shape.elements(); ++i) used[static_cast<size_t>(view.offset + i)] = true;
  }
  for (size_t i = 0; i < used.size(); ++i) {
    if (used[i]) continue;
    EXPECT_EQ(gradient[i], 0.0) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, ConformanceTest, ::testing::ValuesIn(AllRows()), [](const auto& row) {
  return row.param.name + (row.param.variant.empty() ? "" : "_" + row.param.variant);
});

}  // namespace
}  // namespace lockstep::conformance
