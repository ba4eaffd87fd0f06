// SPDX-License-Identifier: Apache-2.0
// Which matrix product runs: the own loops, or oneDNN for large float shapes. The choice depends on
// the shape and the thread count alone, so the bits do.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/device/cpu/cpu_large_gemm.h"
#include "worker/device/cpu/cpu_matmul.h"
#include "worker/device/cpu/kernels.h"
#include "worker/device/device.h"

namespace lockstep::cpu {

class CpuGemm {
 public:
  CpuGemm(const KernelChoice& kernels, int threads);
  // See Device::Gemm. False: bias and activation are still to be done.
  bool Run(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out);

 private:
  template <typename T>
  void RunOwn(const GemmArgs& args, Tensor a, Tensor b, Tensor out);
  void RunFloat(const GemmArgs& args, Tensor a, Tensor b, Tensor out);
  // Without the machine's help: what is rounded to BF16 is multiplied as floats, which is exact.
  void RunRounded(const GemmArgs& args, Tensor a, Tensor b, Tensor out);
  bool RunLarge(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out);

  KernelChoice kernels_;
  int threads_;
  CpuLargeGemm large_;
  CpuMatmul matmul_;
  std::vector<float> rounded_a_, rounded_b_;
  alignas(64) unsigned char pack_[kGemmPackBytes];
};

// True: this product of floats is faster on the own kernels for large ones than in oneDNN.
bool PrefersOwnLargeGemm(const GemmArgs& args);

// True: `m` x `n` x `k` is faster on the own loops.
bool PrefersOwnGemm(int64_t m, int64_t n, int64_t k, int threads);

}  // namespace lockstep::cpu
