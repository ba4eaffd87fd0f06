// SPDX-License-Identifier: Apache-2.0
// The kernels that skip the zeros of a product's left factor (sparse_gemm.h), spread over a device's threads.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/device/cpu/kernels.h"
#include "worker/device/cpu/sparse_gemm.h"
#include "worker/device/device.h"

namespace lockstep::cpu {

class CpuSparseGemm {
 public:
  CpuSparseGemm(const KernelChoice& kernels, int threads) : kernels_(kernels), threads_(threads) {}

  // True: Run is faster than what else there is. That is a function of the shapes, the kind of core, and what is in
  // `a`: a few of its rows are looked through.
  bool Pays(const GemmArgs& args, Tensor a, Tensor out);
  // True: samples may come as bytes where they are multiplied with so many columns.
  bool TakesBytes(int64_t columns, ProductPrecision precision) const;
  // As Device::Gemm, of float tensors, none of the sizes 0. The activation is one that AppliesActivation. kBf16:
  // factors are rounded on the way, and multiplied as floats, which is exact.
  void Run(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out);

 private:
  void TakeScratch();

  const KernelChoice kernels_;
  const int threads_;
  // One for each thread, taken with the first product that is large enough: a step that comes later takes no memory.
  std::vector<std::unique_ptr<SparseScratch>> scratch_;
};

}  // namespace lockstep::cpu
