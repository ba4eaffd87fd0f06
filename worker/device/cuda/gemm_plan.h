// SPDX-License-Identifier: Apache-2.0
// A product as cuBLASLt is asked for it: column by column, so that the row-major out = op(a) op(b) is the transpose of
// what the library computes, out' = op(b)' op(a)', and nothing has to be moved. Host code without calls of CUDA.
#pragma once

#include <cublasLt.h>

#include <compare>
#include <cstdint>

#include "worker/device/device.h"

namespace lockstep::cuda {

// How a matrix of the library lies: `rows` x `cols`, column by column, without gaps.
struct LtMatrix {
  int64_t rows = 0;
  int64_t cols = 0;
  bool transposed = false;
  auto operator<=>(const LtMatrix&) const = default;
};

// What the library is asked to do behind the product.
enum class Epilogue : unsigned char { kNone, kBias, kRelu, kReluBias };

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
  auto operator<=>(const GemmPlan&) const = default;
};

// True: factors are rounded into memory of their own first.
bool RoundsFactors(const GemmArgs& args, DType type);

// `bias`, `out` and so on as of Device::Gemm; none of the sizes is 0. `aligned` is of the memory that the library will
// read. Where the plan's epilogue is not all that is asked for (see Fuses), bias and activation are the caller's.
GemmPlan PlanGemm(const GemmArgs& args, const Tensor& a, const Tensor& b, const Tensor& bias, const Tensor& out,
                  bool aligned);

// True: the library has this epilogue with our meaning. Its GELU is another approximation than ours, and it has none
// for products of doubles.
bool Fuses(const GemmArgs& args, bool has_bias, DType type);

cublasLtEpilogue_t LtEpilogue(Epilogue epilogue);

}  // namespace lockstep::cuda
