// SPDX-License-Identifier: Apache-2.0
// The own kernels for large products (large_gemm.h), spread over a device's threads.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/device/cpu/kernels.h"
#include "worker/device/device.h"

namespace lockstep::cpu {

class CpuLargeGemm {
 public:
  CpuLargeGemm(const KernelChoice& kernels, int threads) : kernels_(kernels), threads_(threads) {}

  bool has(ProductPrecision precision) const { return Function(precision) != nullptr; }
  // As Device::Gemm, of float tensors, none of the sizes 0. The activation is one that AppliesActivation.
  void Run(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out);

 private:
  LargeGemmFunction Function(ProductPrecision precision) const {
    return precision == ProductPrecision::kBf16 ? kernels_.large_bf16 : kernels_.large_f32;
  }

  struct alignas(64) Pack {
    uint32_t units[kLargeGemmPackBytes / sizeof(uint32_t)];
  };

  const KernelChoice kernels_;
  const int threads_;
  // One for each thread, taken when they are first needed.
  std::vector<Pack> packs_;
};

}  // namespace lockstep::cpu
