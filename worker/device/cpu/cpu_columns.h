// SPDX-License-Identifier: Apache-2.0
// Matrices of which only some columns are there (Tensor::columns): a batch of dark images has many columns without one
// pixel. What is there is multiplied as if it were all, with the other factor's rows that belong to it. A sum lacks
// nothing but products with zero; see sparse_gemm.h for what that changes.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/device/cpu/kernels.h"
#include "worker/device/device.h"

namespace lockstep {

struct GatherColumnsProblem {
  const uint8_t* table = nullptr;
  const int64_t* indices = nullptr;
  int64_t rows = 0, width = 0;
  float scale = 1;
  // Room for `width`.
  uint16_t* columns = nullptr;
  // [rows, as many as are returned]; room for all.
  float* out = nullptr;
};

namespace cpu {

// The number of columns that are not zero in some row, which are listed.
int64_t GatherColumns(const GatherColumnsProblem& problem);

// Of float tensors.
class CpuColumns {
 public:
  explicit CpuColumns(const KernelChoice& kernels) : kernels_(*kernels.f32) {}

  // As Device::Gemm where `a` has some columns, without bias and activation. pack: see GemmProblem.
  void Multiply(const GemmArgs& args, Tensor a, Tensor b, Tensor out, float* pack);
  // See Device::StepColumns.
  void Step(double step_size, Tensor x, Tensor dy, Tensor w, float* pack);

 private:
  // x^T dy of columns [first, first + count) of those that are there, to rows_.
  void MultiplyTransposed(const Tensor& x, const Tensor& dy, int64_t first, int64_t count, float* pack);

  const CpuKernels<float>& kernels_;
  std::vector<float> rows_;
};

}  // namespace cpu

namespace kernels_avx512_vbmi2 {
// Of 64 bytes at a time, on machines that can push bytes together in a register.
extern const GatherColumnsFunction kGatherColumns;
}  // namespace kernels_avx512_vbmi2

}  // namespace lockstep
