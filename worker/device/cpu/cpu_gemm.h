// SPDX-License-Identifier: Apache-2.0
// Runs a matrix product the way that crossovers.h says.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "worker/device/cpu/cpu_columns.h"
#include "worker/device/cpu/cpu_large_gemm.h"
#include "worker/device/cpu/cpu_matmul.h"
#include "worker/device/cpu/cpu_sparse_gemm.h"
#include "worker/device/cpu/kernels.h"
#include "worker/device/device.h"

namespace lockstep::cpu {

class CpuGemm {
 public:
  CpuGemm(const KernelChoice& kernels, int threads);
  // See Device::Gemm. False: bias and activation are still to be done.
  bool Run(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out);
  // See Device.
  SampleForm FormOfSamples(int64_t rows, int64_t width, int64_t n, ProductPrecision precision) const;
  void StepColumns(double step_size, Tensor x, Tensor dy, Tensor w) {
    columns_.Step(step_size, x, dy, w, reinterpret_cast<float*>(pack_));
  }
  // How factors that are rounded to BF16 are multiplied, for people.
  const char* Bf16Name() const;

 private:
  template <typename T>
  void RunOwn(const GemmArgs& args, Tensor a, Tensor b, Tensor out);
  bool RunFloat(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out);
  // Without the machine's help: what is rounded to BF16 is multiplied as floats, which is exact.
  bool RunRounded(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out);
  // Runs what applies bias and activation itself, where it knows the activation; else without both.
  static bool RunFinished(const GemmArgs& args, Tensor bias,
                          absl::FunctionRef<void(const GemmArgs& args, Tensor bias)> run);
  bool RunLarge(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out);

  KernelChoice kernels_;
  int threads_;
  CpuLargeGemm large_;
  CpuSparseGemm sparse_;
  CpuColumns columns_;
  CpuMatmul matmul_;
  std::vector<float> rounded_a_, rounded_b_;
  alignas(64) unsigned char pack_[kGemmPackBytes];
};

}  // namespace lockstep::cpu
