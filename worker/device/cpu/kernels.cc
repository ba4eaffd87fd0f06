// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/kernels.h"

#include "worker/device/cpu/cpu_columns.h"
#include "worker/device/cpu/lane_kernels.h"
#include "worker/device/cpu/sparse_gemm.h"

namespace lockstep {

int AvailableKernels(KernelChoice* out, int capacity) {
  int count = 0;
  CpuCore core = CpuCore::kOther;
  const auto add = [&](const KernelChoice& set) {
    if (count >= capacity) return;
    out[count] = set;
    out[count++].core = core;
  };
#if defined(__x86_64__)
  if (__builtin_cpu_is("intel")) core = CpuCore::kIntel;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma")) {
    const bool bf16 = __builtin_cpu_supports("avx512bf16");
    add({"avx512", &kernels_avx512::kF32, &kernels_avx512::kF64, &kernels_avx512::kLaneKernels,
         kernels_avx512::LargeGemm, bf16 ? kernels_avx512_bf16::LargeGemm : nullptr,
         bf16 ? &kernels_avx512_bf16::kLanePairKernels : nullptr, &kernels_avx512::kSparse,
         __builtin_cpu_supports("avx512vbmi2") ? &kernels_avx512_vbmi2::kByteLists : nullptr,
         __builtin_cpu_supports("avx512vbmi2") ? kernels_avx512_vbmi2::kGatherColumns : nullptr});
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    add({"avx2", &kernels_avx2::kF32, &kernels_avx2::kF64, &kernels_avx2::kLaneKernels, nullptr, nullptr, nullptr,
         &kernels_avx2::kSparse});
#endif
  add({"portable", &kernels_base::kF32, &kernels_base::kF64, &kernels_base::kLaneKernels});
  return count;
}

KernelChoice ChooseKernels() {
  KernelChoice best{};
  AvailableKernels(&best, 1);
  return best;
}

}  // namespace lockstep
