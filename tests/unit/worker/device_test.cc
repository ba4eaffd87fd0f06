// SPDX-License-Identifier: Apache-2.0
#include "worker/device/device.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "common/rng.h"
#include "worker/device/cpu/kernels.h"

namespace lockstep {
namespace {

std::vector<float> Random(int64_t n, uint64_t stream) {
  const RngStream rng{5, RngPurpose::kSynthetic, stream};
  std::vector<float> v(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) v[static_cast<size_t>(i)] = rng.Uniform(static_cast<uint64_t>(i)) - 0.5f;
  return v;
}

Tensor View(std::vector<float>& v, const Shape& shape) { return {v.data(), shape, DType::kF32}; }

// The upper half of its bits, to nearest, ties to even: exact in double.
double RoundedToBf16(double x) {
  if (x == 0) return x;
  const double step = std::ldexp(1.0, std::ilogb(x) - 7);
  return std::nearbyint(x / step) * step;
}

class GemmTest : public ::testing::TestWithParam<std::tuple<bool, bool, ProductPrecision>> {};

// Every shape that an MLP has, against a sum in double. Terms are at most 1/4, so the error of a sum of
// k terms is at most k (k / 4) epsilon / 2, far below what a wrong index gives.
TEST_P(GemmTest, AgreesWithTheDefinition) {
  const auto [ta, tb, precision] = GetParam();
  const auto factor = [bf16 = precision == ProductPrecision::kBf16](double x) { return bf16 ? RoundedToBf16(x) : x; };
  auto device = MakeCpuDevice(1);
  for (const auto& [m, n, k] : {std::tuple<int64_t, int64_t, int64_t>{1, 1, 1},
                                {2, 3, 5},
                                {32, 16, 784},
                                {10, 16, 784},
                                {784, 16, 32},
                                {16, 10, 32},
                                {33, 17, 65},
                                {128, 128, 128},
                                {1, 128, 784},
                                {8, 10, 128}}) {
    std::vector<float> a = Random(m * k, 1), b = Random(k * n, 2), bias = Random(n, 3), out(m * n);
    device->Gemm({.transpose_a = ta, .transpose_b = tb, .activation = {Activation::kRelu}, .precision = precision},
                 View(a, ta ? Shape{k, m} : Shape{m, k}), View(b, tb ? Shape{n, k} : Shape{k, n}), View(bias, Shape{n}),
                 View(out, Shape{m, n}));
    const double tolerance = static_cast<double>(k + 2) * static_cast<double>(k + 2) / 4 * 6e-8 + 1e-7;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double sum = bias[static_cast<size_t>(j)];
        for (int64_t l = 0; l < k; ++l) {
          sum += factor(a[static_cast<size_t>(ta ? l * m + i : i * k + l)]) *
                 factor(b[static_cast<size_t>(tb ? j * k + l : l * n + j)]);
        }
        ASSERT_NEAR(out[static_cast<size_t>(i * n + j)], std::max(sum, 0.0), tolerance) << m << "x" << n << "x" << k;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Transposed, GemmTest,
                         ::testing::Combine(::testing::Bool(), ::testing::Bool(),
                                            ::testing::Values(ProductPrecision::kFloat, ProductPrecision::kBf16)));

TEST(GemmAccumulateTest, AddsToWhatIsThere) {
  auto device = MakeCpuDevice(1);
  std::vector<float> a{1, 2}, b{3, 4}, out{100};
  device->Gemm({.accumulate = true}, View(a, Shape{1, 2}), View(b, Shape{2, 1}), {}, View(out, Shape{1, 1}));
  EXPECT_EQ(out[0], 111);
}

TEST(DropoutTest, KeepsTheRightShareAndTheMean) {
  auto device = MakeCpuDevice(1);
  constexpr int64_t kRows = 1000, kWidth = 100;
  std::vector<float> x(kRows * kWidth, 1.0f), y(x.size());
  device->Dropout(View(x, Shape{kRows, kWidth}), 0.2, {1, RngPurpose::kDropout, 9}, 0, View(y, Shape{kRows, kWidth}));
  double kept = 0;
  for (float v : y) {
    ASSERT_TRUE(v == 0.0f || v == 1.25f) << v;
    kept += v != 0;
  }
  // 100,000 draws: standard deviation of the share is 0.0013.
  EXPECT_NEAR(kept / static_cast<double>(y.size()), 0.8, 0.006);
}

TEST(DropoutTest, TheMaskBelongsToThePlaceInTheBatch) {
  auto device = MakeCpuDevice(1);
  for (int64_t width : {1, 3, 4, 7, 128}) {
    const int64_t rows = 8;
    std::vector<float> x(rows * width, 1.0f), whole(x.size()), parts(x.size());
    const RngStream stream{1, RngPurpose::kDropout, 9};
    device->Dropout(View(x, Shape{rows, width}), 0.5, stream, 3, View(whole, Shape{rows, width}));
    for (int64_t row = 0; row < rows; ++row) {
      const Tensor from{x.data() + row * width, Shape{1, width}, DType::kF32};
      const Tensor to{parts.data() + row * width, Shape{1, width}, DType::kF32};
      device->Dropout(from, 0.5, stream, 3 + row, to);
    }
    EXPECT_EQ(whole, parts) << width;
  }
}

TEST(GatherTest, PixelsAreScaled) {
  auto device = MakeCpuDevice(1);
  std::vector<uint8_t> rows{0, 255, 10, 20};
  std::vector<int64_t> indices{1, 0};
  std::vector<float> out(4);
  device->GatherRows({rows.data(), Shape{2, 2}, DType::kU8}, {indices.data(), Shape{2}, DType::kI64},
                     {.scale = 2.0f, .offset = 1.0f}, View(out, Shape{2, 2}));
  EXPECT_EQ(out, (std::vector<float>{21, 41, 1, 511}));
}

TEST(LossTest, LargeLogitsDoNotOverflow) {
  auto device = MakeCpuDevice(1);
  std::vector<float> logits{1000, 0, -1000}, d(3);
  std::vector<int32_t> labels{1};
  double stats[2] = {};
  device->SoftmaxCrossEntropy({}, View(logits, Shape{1, 3}), {labels.data(), Shape{1}, DType::kI32}, 1.0,
                              View(d, Shape{1, 3}), {stats, Shape{2}, DType::kF64});
  EXPECT_DOUBLE_EQ(stats[0], 1000);
  EXPECT_EQ(stats[1], 0);
  EXPECT_EQ(d, (std::vector<float>{1, -1, 0}));
}

TEST(CheckFiniteTest, FindsNanAndInfinity) {
  auto device = MakeCpuDevice(1);
  double flag = -1;
  const Tensor out{&flag, Shape{1}, DType::kF64};
  std::vector<float> x(100, 1.0f);
  device->CheckFinite(View(x, Shape{100}), out);
  EXPECT_EQ(flag, 0);
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    x[57] = bad;
    device->CheckFinite(View(x, Shape{100}), out);
    EXPECT_EQ(flag, 1);
  }
}

// Moments of weights without a gradient fade below 2^-126, where some processors take a hundred times as long.
TEST(DeviceTest, SubnormalNumbersAreZero) {
  if (std::string(ChooseKernels().name) == "portable") GTEST_SKIP() << "only x86 processors are asked to";
  auto device = MakeCpuDevice(1);
  std::vector<float> x(100, 1e-40f), y(100, 1e-38f), out(100);
  device->Add(View(x, Shape{100}), View(x, Shape{100}), View(out, Shape{100}));
  EXPECT_EQ(out, std::vector<float>(100)) << "in";
  Tensor all = View(y, Shape{100});
  std::vector<double> half(100, 0.6e-38);
  device->Convert({half.data(), Shape{100}, DType::kF64}, 1.0, all);
  EXPECT_EQ(y, std::vector<float>(100)) << "out";
}

TEST(DeviceTest, SaysWhatItsBitsDependOn) {
  const std::string text = MakeCpuDevice(2)->Description();
  EXPECT_NE(text.find("2 threads"), std::string::npos) << text;
  EXPECT_NE(text.find("oneDNN"), std::string::npos) << text;
  EXPECT_NE(text.find("bfloat16"), std::string::npos) << text;
}

}  // namespace
}  // namespace lockstep
