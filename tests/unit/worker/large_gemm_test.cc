// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/large_gemm.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tests/unit/worker/product_case.h"
#include "worker/device/cpu/cpu_matmul.h"
#include "worker/device/cpu/crossovers.h"
#include "worker/device/cpu/kernels.h"

namespace lockstep {
namespace {

// Tiles and panels cut short, one column, more than one block of rows and of depth.
constexpr std::array<int64_t, 3> kSizes[] = {{1, 1, 1},     {14, 32, 16},  {15, 33, 17},   {13, 16, 31}, {3, 10, 1},
                                             {29, 64, 100}, {30, 47, 513}, {540, 17, 530}, {2, 70, 1030}};

std::vector<float> Multiply(LargeGemmFunction function, const Product& product) {
  static std::vector<uint32_t> memory(kLargeGemmPackBytes / 4 + 16);
  const auto at = reinterpret_cast<uintptr_t>(memory.data());
  std::vector<float> out;
  LargeGemmProblem problem = product.Problem(out);
  problem.pack = reinterpret_cast<uint32_t*>((at + 63) / 64 * 64);
  function(problem);
  return out;
}

TEST(LargeGemmTest, FloatsAreSummedInOrderBitForBit) {
  const LargeGemmFunction function = ChooseKernels().large_f32;
  if (function == nullptr) GTEST_SKIP() << "needs AVX-512";
  ForProducts(kSizes, [&](const Product& product) {
    const auto fold = [&](float sum, int64_t p, int64_t i, int64_t j) {
      return std::fma(product.A(i, p), product.B(p, j), sum);
    };
    EXPECT_TRUE(SameBits(Multiply(function, product), product.Expected<float>(fold)));
  });
}

// Rounded factors are at most 1/2, so a sum's error is at most k (k / 4 + 1) epsilon; without rounding, it would be off
// by 2^-9 of a term.
TEST(LargeGemmTest, FactorsAreRoundedToBf16AndSummedInFloat) {
  const LargeGemmFunction function = ChooseKernels().large_bf16;
  if (function == nullptr) GTEST_SKIP() << "needs AVX512_BF16";
  ForProducts(kSizes, [&](const Product& product) {
    const auto fold = [&](double sum, int64_t p, int64_t i, int64_t j) {
      return sum + static_cast<double>(Bf16(product.A(i, p))) * Bf16(product.B(p, j));
    };
    const std::vector<double> expected = product.Expected<double>(fold);
    const std::vector<float> got = Multiply(function, product);
    const auto k = static_cast<double>(product.k);
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], (k + 2) * (k / 4 + 1) * 6e-8) << i;
    EXPECT_TRUE(SameBits(Multiply(function, product), got));
  });
}

TEST(LargeGemmTest, ReluLeavesWhatIsNotANumber) {
  for (const LargeGemmFunction function : {ChooseKernels().large_f32, ChooseKernels().large_bf16}) {
    if (function == nullptr) continue;
    Product product({3, 5, 4}, 8);
    product.a[5] = NAN;
    const std::vector<float> out = Multiply(function, product);
    for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(std::isnan(out[i]), i / 5 == 1) << i;
  }
}

class LargeProductTest : public testing::TestWithParam<ProductPrecision> {};

// More columns than threads have panels, and fewer.
TEST_P(LargeProductTest, AnyNumberOfThreadsGivesTheSameBits) {
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{300, 260, 300}, {2000, 20, 900}}) {
    std::vector<float> a = Random(m * k, 1), b = Random(k * n, 2), bias = Random(n, 3);
    std::vector<float> expected(static_cast<size_t>(m * n));
    for (const int threads : {1, 2, 5}) {
      const auto device = MakeCpuDevice(threads);
      std::vector<float> out(expected.size());
      device->Gemm({.transpose_b = true, .activation = {Activation::kRelu}, .precision = GetParam()},
                   View(a, Shape{m, k}), View(b, Shape{n, k}), View(bias, Shape{n}), View(out, Shape{m, n}));
      if (threads == 1) expected = out;
      EXPECT_TRUE(SameBits(out, expected)) << threads;
    }
  }
}

// What the kernels do not apply themselves is done after them.
TEST_P(LargeProductTest, EveryActivationIsApplied) {
  constexpr int64_t kM = 70, kN = 520, kK = 600;
  std::vector<float> a = Random(kM * kK, 1), b = Random(kK * kN, 2), bias = Random(kN, 3), plain(kM * kN), out(kM * kN);
  const auto device = MakeCpuDevice(1);
  const auto multiply = [&](const ActivationArgs& activation, std::vector<float>& to) {
    device->Gemm({.transpose_b = true, .activation = activation, .precision = GetParam()}, View(a, Shape{kM, kK}),
                 View(b, Shape{kN, kK}), View(bias, Shape{kN}), View(to, Shape{kM, kN}));
  };
  multiply({}, plain);
  for (const Activation kind : {Activation::kRelu, Activation::kTanh, Activation::kGelu}) {
    multiply({kind}, out);
    std::vector<float> expected(plain.size());
    device->ActivationForward({kind}, View(plain, Shape{kM, kN}), View(expected, Shape{kM, kN}));
    EXPECT_TRUE(SameBits(out, expected));
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, LargeProductTest,
                         testing::Values(ProductPrecision::kFloat, ProductPrecision::kBf16));

TEST(CrossoverTest, TheFirstLineThatFitsDecides) {
  using cpu::FloatGemmWay, cpu::GemmWay;
  for (const CpuCore core : {CpuCore::kOther, CpuCore::kIntel}) {
    EXPECT_EQ(FloatGemmWay(128, 128, 784, false, 1, core), GemmWay::kSmall);
    EXPECT_EQ(FloatGemmWay(128, 128, 64, false, 2, core), GemmWay::kSmall);
    EXPECT_NE(FloatGemmWay(128, 128, 784, false, 2, core), GemmWay::kSmall);
  }
  EXPECT_EQ(FloatGemmWay(256, 1024, 1024, false, 1, CpuCore::kOther), GemmWay::kLarge);
  EXPECT_EQ(FloatGemmWay(256, 1024, 1024, true, 1, CpuCore::kOther), GemmWay::kLibrary);
  EXPECT_EQ(FloatGemmWay(256, 1024, 1024, false, 1, CpuCore::kIntel), GemmWay::kLibrary);
}

// Floats are summed in the same order, whichever way is faster on a kind of core.
TEST(CrossoverTest, TheWaysOfFloatsHaveTheSameBits) {
  constexpr int64_t kM = 300, kN = 260, kK = 300;
  std::vector<float> a = Random(kM * kK, 1), b = Random(kK * kN, 2), bias = Random(kN, 3);
  KernelChoice kernels = ChooseKernels();
  for (const bool transpose_a : {false, true}) {
    std::vector<float> outs[2];
    for (const CpuCore core : {CpuCore::kOther, CpuCore::kIntel}) {
      kernels.core = core;
      std::vector<float>& out = outs[static_cast<size_t>(core)];
      out.resize(kM * kN);
      MakeCpuDeviceWith(kernels, 1)
          ->Gemm({.transpose_a = transpose_a, .activation = {Activation::kRelu}},
                 View(a, transpose_a ? Shape{kK, kM} : Shape{kM, kK}), View(b, Shape{kK, kN}), View(bias, Shape{kN}),
                 View(out, Shape{kM, kN}));
    }
    EXPECT_TRUE(SameBits(outs[0], outs[1])) << transpose_a;
  }
}

TEST(CrossoverTest, WherePairsAreSlowTheyAreMultipliedAsFloats) {
  KernelChoice kernels = ChooseKernels();
  kernels.core = CpuCore::kIntel;
  const std::string text = MakeCpuDeviceWith(kernels, 1)->Description();
  const bool matrix_units = cpu::CpuMatmul(kernels, 1).has_matrix_units();
  EXPECT_NE(text.find(matrix_units ? "bfloat16 on matrix units" : "bfloat16 in float"), std::string::npos) << text;
}

// The library that machines with matrix units use says the same as the definition.
TEST(CpuMatmulTest, RoundsFactorsToBf16) {
  const KernelChoice kernels = ChooseKernels();
  if (kernels.large_f32 == nullptr) GTEST_SKIP() << "needs AVX-512";
  cpu::CpuMatmul matmul(kernels, 1);
  for (int flags = 0; flags < 4; ++flags) {
    Product product({33, 17, 65}, flags);
    const std::vector<double> expected = product.Expected<double>([&](double sum, int64_t p, int64_t i, int64_t j) {
      return sum + static_cast<double>(Bf16(product.A(i, p))) * Bf16(product.B(p, j));
    });
    std::vector<float> out(expected.size());
    for (int repeat = 0; repeat < 2; ++repeat) {
      matmul.Run({.transpose_a = product.ta, .transpose_b = product.tb},
                 View(product.a, product.ta ? Shape{65, 33} : Shape{33, 65}),
                 View(product.b, product.tb ? Shape{17, 65} : Shape{65, 17}), View(out, Shape{33, 17}));
      for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], expected[i], 67 * (65.0 / 4 + 1) * 6e-8) << flags;
    }
  }
}

}  // namespace
}  // namespace lockstep
