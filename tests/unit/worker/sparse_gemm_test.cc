// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/sparse_gemm.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <memory>
#include <vector>

#include "tests/unit/worker/product_case.h"
#include "worker/device/cpu/cpu_sparse_gemm.h"
#include "worker/device/cpu/kernels.h"

namespace lockstep {
namespace {

// Zeros in so many of 8 places, and in whole rows of both kinds.
void Thin(Product& product, int zeros) {
  const RngStream rng{6, RngPurpose::kSynthetic, 9};
  for (int64_t i = 0; i < product.m; ++i) {
    for (int64_t p = 0; p < product.k; ++p) {
      const auto at = static_cast<size_t>(product.ta ? p * product.m + i : i * product.k + p);
      const bool empty = i % 7 == 3 || p % 11 == 5;
      if (empty || rng.Word(at) % 8 < static_cast<uint64_t>(zeros)) product.a[at] = 0;
    }
  }
}

std::vector<float> Multiply(const SparseKernels& kernels, const Product& product, bool rounded = false) {
  static const auto scratch = std::make_unique<SparseScratch>();
  std::vector<float> out;
  kernels.gemm({.product = product.Problem(out),
                .round = rounded ? ChooseKernels().f32->round_bf16 : nullptr,
                .scratch = scratch.get()});
  return out;
}

// Panels cut short both ways, one column, exactly a panel's columns, more than one list's rows and depth.
constexpr std::array<int64_t, 3> kSizes[] = {{1, 1, 1},      {16, 128, 64},  {15, 129, 65},  {13, 16, 31},
                                             {3, 10, 1},     {29, 300, 100}, {30, 128, 513}, {530, 17, 70},
                                             {2, 140, 1100}, {40, 115, 130}};

class SparseGemmTest : public testing::TestWithParam<int> {
 protected:
  // Null: this machine has fewer sets, or this one none.
  static const SparseKernels* Kernels() {
    KernelChoice sets[4];
    return GetParam() < AvailableKernels(sets, 4) ? sets[GetParam()].sparse : nullptr;
  }
};

TEST_P(SparseGemmTest, WhatIsNotZeroIsSummedInOrderBitForBit) {
  if (Kernels() == nullptr) GTEST_SKIP() << "the machine lacks the instructions";
  for (const int zeros : {0, 4, 7}) {
    ForProducts(kSizes, [&](Product product) {
      Thin(product, zeros);
      const auto fold = [&](float sum, int64_t p, int64_t i, int64_t j) {
        return product.A(i, p) == 0 ? sum : std::fma(product.A(i, p), product.B(p, j), sum);
      };
      EXPECT_TRUE(SameBits(Multiply(*Kernels(), product), product.Expected<float>(fold))) << zeros;
    });
  }
}

TEST_P(SparseGemmTest, FactorsAreRoundedAndTheirProductsAreNot) {
  if (Kernels() == nullptr) GTEST_SKIP() << "the machine lacks the instructions";
  ForProducts(kSizes, [&](Product product) {
    Thin(product, 5);
    const auto fold = [&](float sum, int64_t p, int64_t i, int64_t j) {
      return product.A(i, p) == 0 ? sum : std::fma(Bf16(product.A(i, p)), Bf16(product.B(p, j)), sum);
    };
    EXPECT_TRUE(SameBits(Multiply(*Kernels(), product, true), product.Expected<float>(fold)));
  });
}

TEST_P(SparseGemmTest, WhatIsNotANumberIsNoZero) {
  if (Kernels() == nullptr) GTEST_SKIP() << "the machine lacks the instructions";
  Product product({3, 70, 40}, 8);
  Thin(product, 8);
  product.a[41] = NAN;
  const std::vector<float> out = Multiply(*Kernels(), product);
  for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(std::isnan(out[i]), i / 70 == 1) << i;
}

INSTANTIATE_TEST_SUITE_P(Sets, SparseGemmTest, testing::Values(0, 1));

// Whether zeros are skipped, and on how many threads, is nothing that the bits tell.
TEST(SparseProductTest, ZerosAndThreadsLeaveTheBits) {
  KernelChoice kernels = ChooseKernels();
  if (kernels.sparse == nullptr) GTEST_SKIP() << "needs AVX2";
  KernelChoice all = kernels;
  all.sparse = nullptr;
  // Kernels of our own, all of which add in order.
  kernels.core = all.core = CpuCore::kOther;
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{120, 270, 300}, {700, 64, 90}}) {
    Product product({m, n, k}, 8);
    Thin(product, 6);
    const Tensor a = View(product.a, Shape{m, k}), b = View(product.b, Shape{k, n}),
                 bias = View(product.bias, Shape{n});
    cpu::CpuSparseGemm sparse(kernels, 1);
    std::vector<float> expected(static_cast<size_t>(m * n));
    ASSERT_TRUE(sparse.Pays({}, a, View(expected, Shape{m, n})));
    for (const Activation kind : {Activation::kRelu, Activation::kTanh}) {
      const GemmArgs args{.activation = {kind}};
      MakeCpuDeviceWith(all, 1)->Gemm(args, a, b, bias, View(expected, Shape{m, n}));
      for (const int threads : {1, 2, 5}) {
        std::vector<float> out(expected.size());
        MakeCpuDeviceWith(kernels, threads)->Gemm(args, a, b, bias, View(out, Shape{m, n}));
        EXPECT_TRUE(SameBits(out, expected)) << threads;
      }
    }
  }
}

TEST(SparseProductTest, PaysWhereEnoughIsZeroAndThereIsEnoughToDo) {
  KernelChoice kernels = ChooseKernels();
  if (kernels.sparse == nullptr) GTEST_SKIP() << "needs AVX2";
  const auto pays = [&](const std::array<int64_t, 3>& sizes, int zeros, bool transpose,
                        ProductPrecision precision = {}) {
    Product product(sizes, transpose ? 1 : 0);
    Thin(product, zeros);
    const Shape stored = transpose ? Shape{sizes[2], sizes[0]} : Shape{sizes[0], sizes[2]};
    return cpu::CpuSparseGemm(kernels, 1)
        .Pays({.transpose_a = transpose, .precision = precision}, View(product.a, stored),
              View(product.before, Shape{sizes[0], sizes[1]}));
  };
  for (const bool transpose : {false, true}) {
    EXPECT_TRUE(pays({128, 128, 784}, 6, transpose));
    EXPECT_FALSE(pays({128, 128, 784}, 1, transpose));
    // As narrow as a last layer, and as small as a step of few samples.
    EXPECT_FALSE(pays({1024, 10, 784}, 6, transpose));
    EXPECT_FALSE(pays({10, 128, 784}, 6, transpose));
  }
  // Fewer, where products of pairs take half the time.
  EXPECT_TRUE(pays({128, 128, 784}, 5, false));
  EXPECT_EQ(pays({128, 128, 784}, 5, false, ProductPrecision::kBf16), kernels.large_bf16 == nullptr);
}

}  // namespace
}  // namespace lockstep
