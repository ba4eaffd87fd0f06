// SPDX-License-Identifier: Apache-2.0
// Matrix products too large for the caches, of floats or of floats rounded to BF16. Factors are packed on the way, so
// the rounding costs no pass of its own, and bias and ReLU are applied while a value is still in a register.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lockstep {

// out = relu(op(a) op(b) + bias), or out += op(a) op(b). Matrices are row-major, their rows so many floats apart.
struct LargeGemmProblem {
  int64_t m = 0, n = 0, k = 0;
  // op(a): [m, k]; stored so, or as [k, m].
  const float* a = nullptr;
  int64_t a_stride = 0;
  bool transpose_a = false;
  // Of a part of a product: the whole one's row of op(a) that `a` begins with.
  int64_t first_row = 0;
  // op(b): [k, n]; stored so, or as [n, k].
  const float* b = nullptr;
  int64_t b_stride = 0;
  bool transpose_b = false;
  float* out = nullptr;
  int64_t out_stride = 0;
  bool accumulate = false;
  // [n] or null; without accumulate.
  const float* bias = nullptr;
  bool relu = false;
  // kLargeGemmPackBytes bytes on a 64-byte boundary.
  uint32_t* pack = nullptr;
};

// Each output is summed over p = 0, 1, ... in order (BF16: in pairs of p), whatever the other sizes are.
using LargeGemmFunction = void (*)(const LargeGemmProblem& problem);

// What is packed is counted in units of 32 bits: one float, or two neighbours in k as BF16. A tile is
// kLargeTileRows x kLargeTileColumns values. A block of `a` stays in the second-level cache while one panel of `b`
// after the other goes by.
inline constexpr int64_t kLargeTileRows = 14;
inline constexpr int64_t kLargeTileColumns = 32;
inline constexpr int64_t kLargeDepth = 512;
inline constexpr int64_t kLargeBlockRows = 37 * kLargeTileRows;
inline constexpr size_t kLargeGemmPackBytes =
    static_cast<size_t>((kLargeBlockRows + 2 * kLargeTileColumns) * kLargeDepth + 64) * sizeof(uint32_t);

namespace kernels_avx512 {
void LargeGemm(const LargeGemmProblem& problem);
}  // namespace kernels_avx512
namespace kernels_avx512_bf16 {
void LargeGemm(const LargeGemmProblem& problem);
}  // namespace kernels_avx512_bf16

}  // namespace lockstep
