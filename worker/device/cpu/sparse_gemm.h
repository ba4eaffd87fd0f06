// SPDX-License-Identifier: Apache-2.0
// Matrix products whose left factor is full of zeros: pixels of a dark image, what ReLU lets through. Only what is not
// zero is multiplied. Each output is summed over p = 0, 1, ... in order, as by the other kernels: a zero left out
// changes no bit of a sum, unless it is the sign of a zero, or what it would be multiplied with is not finite.
#pragma once

#include <cstdint>

#include "worker/device/cpu/large_gemm.h"
#include "worker/device/tensor.h"

namespace lockstep {

// Rows of the left factor whose entries are listed at a time, and the depth that is listed: what stays in the
// second-level cache.
inline constexpr int64_t kSparseRows = 512;
inline constexpr int64_t kSparseListed = 1024;
// The largest panel of the right factor: it stays in the first-level cache while row after row takes what it needs of
// it. Sets with fewer registers have narrower ones.
inline constexpr int64_t kSparseDepth = 64;
inline constexpr int64_t kSparseColumns = 128;

// Lists entries straight from bytes. Values and places as in SparseScratch, behind those before; says how many. Each
// may write a panel's depth more.
struct ByteLists {
  // Rows [i, i + rows) of the bytes, in the columns [p, p + depth).
  int64_t (*rows)(const ByteRows& x, int64_t width, int64_t i, int64_t rows, int64_t p, int64_t depth, float* values,
                  uint8_t* places, int32_t* counts);
  // The same of columns [i, i + rows), in the rows [p, p + depth).
  int64_t (*columns)(const ByteRows& x, int64_t width, int64_t i, int64_t rows, int64_t p, int64_t depth, float* values,
                     uint8_t* places, int32_t* counts);
};

struct SparseScratch {
  alignas(64) float panel[kSparseDepth * kSparseColumns];
  alignas(64) float sums[kSparseRows * kSparseColumns];
  // Of each depth of a panel, each row: what is not zero, and its row of the panel. Whole
  // registers are written, so there is room behind the last.
  alignas(64) float values[kSparseRows * kSparseListed + kSparseDepth];
  alignas(64) uint8_t places[kSparseRows * kSparseListed + kSparseDepth];
  int32_t counts[kSparseListed / kSparseDepth * kSparseRows];
};

struct SparseGemmProblem {
  // Its `pack` is not used.
  LargeGemmProblem product;
  // Not null: the left factor, whose `a` is null, and what lists it.
  const ByteRows* bytes = nullptr;
  const ByteLists* list = nullptr;
  // Rounds the factors on the way; null: they stay as they are. y may alias x.
  void (*round)(const float* x, int64_t n, float* y) = nullptr;
  SparseScratch* scratch = nullptr;
};

struct SparseKernels {
  void (*gemm)(const SparseGemmProblem& problem);
  int64_t (*count_non_zeros)(const float* x, int64_t n);
};

namespace kernels_avx2 {
extern const SparseKernels kSparse;
}  // namespace kernels_avx2
namespace kernels_avx512 {
extern const SparseKernels kSparse;
}  // namespace kernels_avx512
// On machines that can push bytes together in a register.
namespace kernels_avx512_vbmi2 {
extern const ByteLists kByteLists;
}  // namespace kernels_avx512_vbmi2

}  // namespace lockstep
