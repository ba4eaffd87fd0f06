// SPDX-License-Identifier: Apache-2.0
// A product as cuBLASLt is asked for it: column by column, so that the row-major out = op(a) op(b) is the transpose of
// what the library computes, out' = op(b)' op(a)', and nothing has to be moved. Host code without calls of CUDA.
#pragma once

#include <cublasLt.h>

#include <array>
#include <compare>
#include <cstdint>

#include "worker/device/device.h"

namespace lockstep::cuda {

// How a matrix of the library lies: `rows` x `cols`, column by column, without gaps.
struct LtMatrix {
  int64_t rows = 0;
  int64_t cols = 0;
  bool transposed = false;
  auto operator<=>(const LtMatrix&) const = default;  // NOLINT(modernize-use-nullptr): the 0 is the compiler's
};

// What the library is asked to do behind the product.
enum class Epilogue : unsigned char {
  kNone,
  kBias,
  kRelu,
  kReluBias,
  // The same, and a bit for each element: whether it has passed.
  kReluMask,
  kReluBiasMask,
  // The product where the bit says so, else 0.
  kReluGradient,
  // The sums of the rows of b: of the library's first factor.
  kRowSums,
};

// All that an algorithm is chosen by; the order is of no meaning.
struct GemmPlan {
  // The library's first factor is b, the second one a.
  LtMatrix left, right;
  // out': n x m.
  int64_t rows = 0;
  int64_t cols = 0;
  cudaDataType_t factor_type = CUDA_R_32F;
  cudaDataType_t out_type = CUDA_R_32F;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  Epilogue epilogue = Epilogue::kNone;
  bool accumulate = false;
  // Every address is a multiple of 16 bytes.
  bool aligned = true;
  auto operator<=>(const GemmPlan&) const = default;  // NOLINT(modernize-use-nullptr): the 0 is the compiler's
};

// True: a factor of this type is rounded into memory of its own first.
bool RoundsFactors(const GemmArgs& args, DType type);
// Device::FactorType.
DType FactorTypeOf(ProductPrecision precision);

// What may be asked for, best first; the last is kNone. `has_mask`: the call that put out args.source has left its
// bits. Nothing is asked for that the library does with another meaning than ours: its GELU is another approximation.
std::array<Epilogue, 3> Epilogues(const GemmArgs& args, bool has_bias, DType type, bool has_mask);

// `out` and so on as of Device::Gemm; none of the sizes is 0. `aligned` is of the memory that the library will read and
// write. What the epilogue does not do is the caller's.
GemmPlan PlanGemm(const GemmArgs& args, const Tensor& a, const Tensor& b, const Tensor& out, Epilogue epilogue,
                  bool aligned);

constexpr bool AddsBias(Epilogue e) {
  return e == Epilogue::kBias || e == Epilogue::kReluBias || e == Epilogue::kReluBiasMask;
}
constexpr bool AppliesRelu(Epilogue e) {
  return e == Epilogue::kRelu || e == Epilogue::kReluBias || e == Epilogue::kReluMask || e == Epilogue::kReluBiasMask;
}
constexpr bool LeavesMask(Epilogue e) { return e == Epilogue::kReluMask || e == Epilogue::kReluBiasMask; }
// Bits between two columns of the library's mask.
constexpr int64_t MaskStride(int64_t rows) { return (rows + 127) / 128 * 128; }

// Whether the epilogue does all that is wanted behind the product but for the rows' sums.
bool DoesAll(Epilogue epilogue, const GemmArgs& args, bool has_bias);

cublasLtEpilogue_t LtEpilogue(Epilogue epilogue);

}  // namespace lockstep::cuda
