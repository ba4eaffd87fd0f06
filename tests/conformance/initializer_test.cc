// SPDX-License-Identifier: Apache-2.0
// Every initialiser: what its numbers are, and their distribution against theory.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "tests/conformance/arrays.h"
#include "tests/conformance/devices.h"
#include "tests/conformance/tolerance.h"
#include "worker/device/math/random.h"
#include "worker/nn/initialize.h"

namespace lockstep::conformance {
namespace {

constexpr int64_t kRows = 400, kColumns = 500;
// Not those of the shape, so that it shows which one is used.
constexpr double kFanIn = 50, kFanOut = 150;
constexpr double kN = kRows * kColumns;

std::vector<double> Draw(const std::string& text, const Shape& shape, uint64_t stream = 3, DType type = DType::kF64) {
  const auto device = MakeTestDevice();
  Arrays arrays(device.get());
  const ParameterPlan plan{.name = "p",
                           .shape = shape,
                           .initializer = FromText<v1::InitializerSpec>(text),
                           .fan_in = static_cast<int64_t>(kFanIn),
                           .fan_out = static_cast<int64_t>(kFanOut)};
  const Tensor t = arrays.Zeros(shape, type);
  InitializeTensor(*device, t, plan, {.seed = 9, .purpose = RngPurpose::kInit, .stream = stream});
  std::vector<double> values;
  for (int64_t i = 0; i < t.elements(); ++i) values.push_back(Arrays::Get(t, i));
  return values;
}

// Of a distribution: what a sample of kN draws of it must look like.
struct Row {
  std::string kind;
  std::string initializer;
  double mean = 0;
  double variance = 0;
  // No value is further from the mean.
  double limit = INFINITY;
  // Fourth moment by squared variance: 3 for a normal, 9/5 for a uniform, kTruncated for a truncated one.
  double kurtosis = 3;
};
constexpr double kUniform = 1.8;
// Variance of a normal distribution cut off at two standard deviations, 1 - 4 phi(2) / (1 - 2 Phi(-2)), and
// its kurtosis, (3 v - 16 phi(2) / (1 - 2 Phi(-2))) / v^2.
constexpr double kCut = 0.7737413;
constexpr double kTruncated = 2.3655;

std::vector<Row> Rows() {
  const double glorot = 2 / (kFanIn + kFanOut), he = 2 / kFanIn, lecun = 1 / kFanIn;
  const double whole = 1 / std::sqrt(kCut);
  return {
      {"zeros", "zeros {}", 0, 0, 0},
      {"ones", "ones {}", 1, 0, 0},
      {"constant", "constant { value: -2.5 }", -2.5, 0, 0},
      {"random_uniform", "random_uniform {}", 0, 0.1 * 0.1 / 12, 0.05, kUniform},
      {"random_uniform", "random_uniform { minval: 1 maxval: 4 }", 2.5, 9.0 / 12, 1.5, kUniform},
      {"random_normal", "random_normal {}", 0, 0.0025},
      {"random_normal", "random_normal { mean: 3 stddev: 2 }", 3, 4},
      {"random_normal", "random_normal { mean: 3 stddev: 0 }", 3, 0, 0},
      {"truncated_normal", "truncated_normal {}", 0, 0.0025 * kCut, 0.1, kTruncated},
      {"truncated_normal", "truncated_normal { mean: -1 stddev: 2 }", -1, 4 * kCut, 4, kTruncated},
      {"glorot_uniform", "glorot_uniform {}", 0, glorot, std::sqrt(3 * glorot), kUniform},
      {"glorot_normal", "glorot_normal {}", 0, glorot, 2 * whole * std::sqrt(glorot), kTruncated},
      {"he_uniform", "he_uniform {}", 0, he, std::sqrt(3 * he), kUniform},
      {"he_normal", "he_normal {}", 0, he, 2 * whole * std::sqrt(he), kTruncated},
      {"lecun_uniform", "lecun_uniform {}", 0, lecun, std::sqrt(3 * lecun), kUniform},
      {"lecun_normal", "lecun_normal {}", 0, lecun, 2 * whole * std::sqrt(lecun), kTruncated},
      // Of an orthogonal matrix of n columns the elements have variance 1 / n.
      {"orthogonal", "orthogonal {}", 0, 1 / double{kColumns}},
      {"orthogonal", "orthogonal { gain: 3 }", 0, 9 / double{kColumns}},
  };
}

class InitializerConformance : public testing::TestWithParam<Row> {};

// Five standard deviations of the estimate: a right generator fails once in two million draws of the seed,
// which is fixed.
TEST_P(InitializerConformance, HasTheMeanVarianceAndLimitsOfItsDistribution) {
  const Row& row = GetParam();
  const std::vector<double> values = Draw(row.initializer, {kRows, kColumns});
  double mean = 0, variance = 0, furthest = 0;
  for (const double v : values) mean += v / kN;
  for (const double v : values) {
    variance += (v - row.mean) * (v - row.mean) / kN;
    furthest = std::max(furthest, std::abs(v - row.mean));
  }
  const double rounding = Tolerance(DType::kF64, static_cast<int64_t>(kN)) * std::max(1.0, std::abs(row.mean));
  EXPECT_NEAR(mean, row.mean, 5 * std::sqrt(row.variance / kN) + rounding);
  EXPECT_NEAR(variance, row.variance, 5 * row.variance * std::sqrt((row.kurtosis - 1) / kN) + rounding);
  EXPECT_LE(furthest, row.limit * (1 + 1e-6));
  // The ends are reached.
  if (row.variance > 0 && std::isfinite(row.limit)) {
    EXPECT_GE(furthest, 0.995 * row.limit);
  }
}

TEST_P(InitializerConformance, IsAFunctionOfTheStreamInEitherPrecision) {
  const Shape shape{13, 7};
  const auto first = Draw(GetParam().initializer, shape), second = Draw(GetParam().initializer, shape);
  EXPECT_EQ(first, second);
  EXPECT_EQ(first == Draw(GetParam().initializer, shape, 4), GetParam().variance == 0);
  const auto single = Draw(GetParam().initializer, shape, 3, DType::kF32);
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_LE(RelativeError(single[i], first[i]), Tolerance(DType::kF32, 1)) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, InitializerConformance, testing::ValuesIn(Rows()),
                         [](const auto& p) { return p.param.kind + "_" + std::to_string(p.index); });

TEST(InitializerConformance, EveryInitializerHasARow) {
  std::set<std::string> rows{"identity"};
  for (const Row& row : Rows()) rows.insert(row.kind);
  const auto* oneof = v1::InitializerSpec::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < oneof->field_count(); ++i) {
    EXPECT_TRUE(rows.contains(oneof->field(i)->name())) << oneof->field(i)->name();
  }
}

TEST(IdentityTest, HasGainOnItsDiagonal) {
  for (const Shape& shape : {Shape{3, 3}, Shape{2, 5}, Shape{5, 2}}) {
    const auto values = Draw("identity { gain: 2.5 }", shape);
    for (int64_t i = 0; i < shape[0]; ++i) {
      for (int64_t j = 0; j < shape[1]; ++j) {
        EXPECT_EQ(values[static_cast<size_t>(i * shape[1] + j)], i == j ? 2.5 : 0.0);
      }
    }
  }
}

// The shorter of rows and columns are orthonormal; all axes but the first are columns.
TEST(OrthogonalTest, RowsOrColumnsAreOrthonormal) {
  for (const Shape& shape :
       {Shape{1, 1}, Shape{8, 8}, Shape{40, 13}, Shape{13, 40}, Shape{6, 3, 5, 5}, Shape{80, 2, 3}}) {
    const auto values = Draw("orthogonal { gain: 2 }", shape);
    const int64_t rows = shape[0], columns = shape.elements() / rows;
    const bool by_row = rows <= columns;
    const int64_t count = std::min(rows, columns), length = std::max(rows, columns);
    const auto at = [&](int64_t vector, int64_t i) {
      return values[static_cast<size_t>(by_row ? vector * columns + i : i * columns + vector)];
    };
    for (int64_t a = 0; a < count; ++a) {
      for (int64_t b = 0; b <= a; ++b) {
        double dot = 0;
        for (int64_t i = 0; i < length; ++i) dot += at(a, i) * at(b, i);
        EXPECT_NEAR(dot, a == b ? 4.0 : 0.0, 4 * Tolerance(DType::kF64, length)) << shape.ToString();
      }
    }
  }
}

// Phi(NormalQuantile(p)) = p, by the C library's erfc. The slope of Phi there is phi(x), and x is off by a
// few epsilon of itself.
TEST(NormalQuantileTest, InvertsTheDistribution) {
  std::vector<double> ps{0.5 / 4294967296.0, 1e-9, 1e-7, 1e-5, 1e-3, 0.01, 0.074, 0.0751, 0.3, 0.5};
  for (int i = 1; i < 1000; ++i) ps.push_back(i / 2000.0);
  for (const double p : ps) {
    const double x = math::NormalQuantile(p);
    const double back = 0.5 * std::erfc(-x / std::sqrt(2.0));
    // d log Phi / dx is about |x| + 1 in the tail.
    EXPECT_NEAR(back / p, 1.0, (x * x + std::abs(x) + 1) * Tolerance(DType::kF64, 8)) << p;
    if (p < 0.5) {
      EXPECT_NEAR(math::NormalQuantile(1 - p), -x, 1e-16 / (p * (std::abs(x) + 1)) + 1e-14) << p;
    }
  }
}

TEST(NormalQuantileTest, LogarithmIsTheLibrarys) {
  for (int i = 0; i < 2000; ++i) {
    const double x = std::ldexp(0.5 + i / 4000.0, -(i % 40));
    EXPECT_NEAR(math::LogOf(x), std::log(x), std::max(1.0, std::abs(std::log(x))) * Tolerance(DType::kF64, 1)) << x;
  }
}

}  // namespace
}  // namespace lockstep::conformance
