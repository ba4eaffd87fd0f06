// SPDX-License-Identifier: Apache-2.0
// What cuBLASLt is asked for gives the product that was asked for: the library's rules, in loops.
#include "worker/device/cuda/gemm_plan.h"

#include <gtest/gtest.h>

#include <array>
#include <tuple>
#include <vector>

namespace lockstep::cuda {
namespace {

Tensor Matrix(std::vector<float>& values, int64_t rows, int64_t cols) {
  return {values.data(), Shape{rows, cols}, DType::kF32};
}

// Element (i, j) of op(x), which lies column by column.
float At(const std::vector<float>& x, const LtMatrix& matrix, int64_t i, int64_t j) {
  if (matrix.transposed) std::swap(i, j);
  return x[static_cast<size_t>(j * matrix.rows + i)];
}

// out' = op(left) op(right), column by column.
std::vector<float> AsTheLibrary(const GemmPlan& plan, const std::vector<float>& left, const std::vector<float>& right) {
  const int64_t inner = plan.left.transposed ? plan.left.rows : plan.left.cols;
  EXPECT_EQ(plan.left.transposed ? plan.left.cols : plan.left.rows, plan.rows);
  EXPECT_EQ(plan.right.transposed ? plan.right.cols : plan.right.rows, inner);
  EXPECT_EQ(plan.right.transposed ? plan.right.rows : plan.right.cols, plan.cols);
  std::vector<float> out(static_cast<size_t>(plan.rows * plan.cols));
  for (int64_t j = 0; j < plan.cols; ++j) {
    for (int64_t i = 0; i < plan.rows; ++i) {
      float sum = 0;
      for (int64_t q = 0; q < inner; ++q) sum += At(left, plan.left, i, q) * At(right, plan.right, q, j);
      out[static_cast<size_t>(j * plan.rows + i)] = sum;
    }
  }
  return out;
}

class GemmPlanTest : public ::testing::TestWithParam<std::tuple<bool, bool>> {};

TEST_P(GemmPlanTest, IsTheProduct) {
  const auto [ta, tb] = GetParam();
  constexpr int64_t kM = 3, kN = 5, kK = 4;
  std::vector<float> a(kM * kK), b(kK * kN), out(kM * kN), expected(kM * kN);
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i % 7) - 3;
  for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i % 5) - 2;
  for (int64_t i = 0; i < kM; ++i) {
    for (int64_t j = 0; j < kN; ++j) {
      for (int64_t q = 0; q < kK; ++q) {
        expected[static_cast<size_t>(i * kN + j)] +=
            a[static_cast<size_t>(ta ? q * kM + i : i * kK + q)] * b[static_cast<size_t>(tb ? j * kK + q : q * kN + j)];
      }
    }
  }
  const GemmPlan plan =
      PlanGemm({.transpose_a = ta, .transpose_b = tb}, ta ? Matrix(a, kK, kM) : Matrix(a, kM, kK),
               tb ? Matrix(b, kN, kK) : Matrix(b, kK, kN), Matrix(out, kM, kN), Epilogue::kNone, true);
  EXPECT_EQ(AsTheLibrary(plan, b, a), expected);
}
INSTANTIATE_TEST_SUITE_P(Transposes, GemmPlanTest, ::testing::Combine(::testing::Bool(), ::testing::Bool()));

class GemmChoiceTest : public ::testing::Test {
 protected:
  GemmPlan Plan(const GemmArgs& args, bool bias, DType type = DType::kF32) {
    const auto matrix = [&](int64_t rows, int64_t cols) { return Tensor{memory_, Shape{rows, cols}, type}; };
    return PlanGemm(args, matrix(2, 3), matrix(3, 4), matrix(2, 4), Epilogues(args, bias, type, false)[0], true);
  }
  double memory_[16] = {};
};

TEST_F(GemmChoiceTest, TheLibraryDoesBiasAndReluButNoOtherFunction) {
  EXPECT_EQ(Plan({}, false).epilogue, Epilogue::kNone);
  EXPECT_EQ(Plan({}, true).epilogue, Epilogue::kBias);
  EXPECT_EQ(Plan({.activation = {Activation::kRelu}}, false).epilogue, Epilogue::kRelu);
  EXPECT_EQ(Plan({.activation = {Activation::kRelu}}, true).epilogue, Epilogue::kReluBias);
  for (const Activation kind : {Activation::kGelu, Activation::kGeluTanh, Activation::kTanh, Activation::kLeakyRelu}) {
    EXPECT_EQ(Plan({.activation = {kind}}, true).epilogue, Epilogue::kNone);
  }
  EXPECT_EQ(Plan({.activation = {Activation::kRelu}}, true, DType::kF64).epilogue, Epilogue::kNone);
}

TEST_F(GemmChoiceTest, TheLibraryDoesTheGradientsOfBiasAndRelu) {
  const Tensor some{memory_, Shape{4}, DType::kF32};
  using All = std::array<Epilogue, 3>;
  constexpr Epilogue kNone = Epilogue::kNone;
  const GemmArgs forward{.activation = {Activation::kRelu}, .mask = some};
  EXPECT_EQ(Epilogues(forward, true, DType::kF32, false), (All{Epilogue::kReluBiasMask, Epilogue::kReluBias, kNone}));
  EXPECT_EQ(Epilogues(forward, false, DType::kF32, false), (All{Epilogue::kReluMask, Epilogue::kRelu, kNone}));
  const GemmArgs sums{.transpose_a = true, .row_sums = some};
  EXPECT_EQ(Epilogues(sums, false, DType::kF32, false)[0], Epilogue::kRowSums);
  EXPECT_EQ(Epilogues(sums, false, DType::kF64, false)[0], kNone);
  const GemmArgs backward{.transpose_b = true, .before = {Activation::kRelu}, .source = some, .mask = some};
  EXPECT_EQ(Epilogues(backward, false, DType::kF32, true)[0], Epilogue::kReluGradient);
  // What put out the source has left no mask.
  EXPECT_EQ(Epilogues(backward, false, DType::kF32, false)[0], kNone);
  GemmArgs other = backward;
  other.before = {Activation::kTanh};
  EXPECT_EQ(Epilogues(other, false, DType::kF32, true)[0], kNone);
  for (const Epilogue e : {Epilogue::kReluMask, Epilogue::kReluBiasMask}) {
    EXPECT_TRUE(AppliesRelu(e) && LeavesMask(e));
  }
  EXPECT_EQ(MaskStride(1), 128);
  EXPECT_EQ(MaskStride(4096), 4096);
  // What the caller makes room for.
  EXPECT_EQ(GemmMaskElements(3, 130) * 64, 3 * MaskStride(130));
}

TEST_F(GemmChoiceTest, PrecisionsAreThoseThatWereAskedFor) {
  const auto with = [](ProductPrecision precision) { return GemmArgs{.precision = precision}; };
  EXPECT_EQ(Plan({}, false).compute, CUBLAS_COMPUTE_32F);
  EXPECT_EQ(Plan({}, false).factor_type, CUDA_R_32F);
  EXPECT_EQ(Plan(with(ProductPrecision::kTf32), false).compute, CUBLAS_COMPUTE_32F_FAST_TF32);
  EXPECT_EQ(Plan(with(ProductPrecision::kTf32), false).factor_type, CUDA_R_32F);
  for (const auto& [precision, type] :
       {std::pair{ProductPrecision::kBf16, CUDA_R_16BF}, std::pair{ProductPrecision::kFloat16, CUDA_R_16F}}) {
    const GemmPlan plan = Plan(with(precision), false);
    EXPECT_TRUE(RoundsFactors(with(precision), DType::kF32));
    EXPECT_EQ(plan.factor_type, type);
    EXPECT_EQ(plan.out_type, CUDA_R_32F);
    EXPECT_EQ(plan.compute, CUBLAS_COMPUTE_32F);
  }
  const GemmPlan doubles = Plan(with(ProductPrecision::kBf16), false, DType::kF64);
  EXPECT_FALSE(RoundsFactors(with(ProductPrecision::kBf16), DType::kF64));
  EXPECT_EQ(doubles.compute, CUBLAS_COMPUTE_64F);
  EXPECT_EQ(doubles.factor_type, CUDA_R_64F);
}

TEST_F(GemmChoiceTest, PlansThatDifferAreKeptApart) {
  EXPECT_EQ(Plan({}, true), Plan({}, true));
  EXPECT_NE(Plan({}, true), Plan({}, false));
  EXPECT_NE(Plan({}, false), Plan({.accumulate = true}, false));
  EXPECT_NE(Plan({}, false), Plan({.precision = ProductPrecision::kTf32}, false));
}

}  // namespace
}  // namespace lockstep::cuda
