// SPDX-License-Identifier: Apache-2.0
// Matrix products with their definitions, for tests of the kernels.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "common/rng.h"
#include "worker/device/cpu/kernels.h"
#include "worker/device/cpu/large_gemm.h"
#include "worker/device/device.h"

namespace lockstep {

inline std::vector<float> Random(int64_t n, uint64_t stream) {
  const RngStream rng{5, RngPurpose::kSynthetic, stream};
  std::vector<float> v(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) v[static_cast<size_t>(i)] = rng.Uniform(static_cast<uint64_t>(i)) - 0.5f;
  return v;
}

inline bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

inline Tensor View(std::vector<float>& v, const Shape& shape) { return {v.data(), shape, DType::kF32}; }

inline float Bf16(float x) {
  float y = 0;
  ChooseKernels().f32->round_bf16(&x, 1, &y);
  return y;
}

// One product: sizes, and what is transposed, added, and done at the end.
struct Product {
  int64_t m, n, k;
  bool ta = false, tb = false, accumulate = false, epilogue = false;
  std::vector<float> a, b, bias, before;

  Product(std::array<int64_t, 3> sizes, int flags) : m(sizes[0]), n(sizes[1]), k(sizes[2]) {
    ta = (flags & 1) != 0, tb = (flags & 2) != 0, accumulate = (flags & 4) != 0, epilogue = (flags & 8) != 0;
    a = Random(m * k, 1), b = Random(k * n, 2), bias = Random(n, 3), before = Random(m * n, 4);
  }
  float A(int64_t i, int64_t p) const { return a[static_cast<size_t>(ta ? p * m + i : i * k + p)]; }
  float B(int64_t p, int64_t j) const { return b[static_cast<size_t>(tb ? j * k + p : p * n + j)]; }

  // Into `out`, which begins as `before`; without `pack`.
  LargeGemmProblem Problem(std::vector<float>& out) const {
    out = before;
    return {.m = m,
            .n = n,
            .k = k,
            .a = a.data(),
            .a_stride = ta ? m : k,
            .transpose_a = ta,
            .b = b.data(),
            .b_stride = tb ? k : n,
            .transpose_b = tb,
            .out = out.data(),
            .out_stride = n,
            .accumulate = accumulate,
            .bias = epilogue ? bias.data() : nullptr,
            .relu = epilogue};
  }
  // Each value is fold(value, p, i, j) over p in order, from what is there where that is added to.
  template <typename T, typename Fold>
  std::vector<T> Expected(Fold fold) const {
    std::vector<T> out;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        T sum = accumulate ? T(before[static_cast<size_t>(i * n + j)]) : T(0);
        for (int64_t p = 0; p < k; ++p) sum = fold(sum, p, i, j);
        if (epilogue) sum += bias[static_cast<size_t>(j)];
        out.push_back(epilogue && sum < 0 ? T(0) : sum);
      }
    }
    return out;
  }
};

// All that can be transposed, added to and done at the end, of each of the sizes.
template <typename Sizes, typename Visit>
void ForProducts(const Sizes& all, Visit visit) {
  for (const auto& sizes : all) {
    for (int flags = 0; flags < 12; ++flags) {
      SCOPED_TRACE(testing::Message() << sizes[0] << "x" << sizes[1] << "x" << sizes[2] << " flags " << flags);
      visit(Product(sizes, flags));
    }
  }
}

}  // namespace lockstep
