// SPDX-License-Identifier: Apache-2.0
// Which way a matrix product takes, as measured (lockstep-bench-step: BM_Gemm, BM_LargeGemm). It depends on the shape,
// the threads, the kind of core and how much of a factor is zero, and own kernels take float sums in the same order.
#pragma once

#include <cstdint>
#include <optional>

#include "worker/device/cpu/kernels.h"
#include "worker/device/device.h"

namespace lockstep::cpu {

enum class GemmWay : uint8_t {
  // gemm_impl.h: nothing is packed that need not be.
  kSmall,
  // large_gemm_impl.h: packed, with bias and ReLU.
  kLarge,
  // oneDNN.
  kLibrary,
};

struct GemmCrossover {
  // Of fewer multiply-adds, or of as many.
  int64_t most = INT64_MAX;
  // What it holds for; nothing: for all.
  std::optional<bool> threaded = std::nullopt;
  std::optional<bool> transposed_a = std::nullopt;
  std::optional<CpuCore> core = std::nullopt;
  GemmWay way = GemmWay::kSmall;
};

// Of floats; the first line that fits.
inline constexpr GemmCrossover kFloatCrossovers[] = {
    {.most = int64_t{1} << 20, .way = GemmWay::kSmall},
    {.most = int64_t{1} << 24, .threaded = false, .way = GemmWay::kSmall},
    // 256 x 1024 x 1024 and its like, GFLOP/s: 126 to 150 against 105 of 160.
    {.core = CpuCore::kIntel, .way = GemmWay::kLibrary},
    // 2 % ahead; behind by as much and more where it is not transposed.
    {.transposed_a = true, .way = GemmWay::kLibrary},
    {.way = GemmWay::kLarge},
};

// Factors rounded to BF16 go to a machine's matrix units from here on: below, a call of the library costs more than
// they save.
inline constexpr int64_t kMatrixUnitsFrom = int64_t{1} << 20;

// Products of BF16 pairs are faster than those of the same factors as floats.
constexpr bool PairsAreFast(CpuCore core) { return core != CpuCore::kIntel; }

constexpr GemmWay FloatGemmWay(int64_t m, int64_t n, int64_t k, bool transposed_a, int threads, CpuCore core) {
  for (const GemmCrossover& line : kFloatCrossovers) {
    if (m * n * k <= line.most && line.threaded.value_or(threads > 1) == (threads > 1) &&
        line.transposed_a.value_or(transposed_a) == transposed_a && line.core.value_or(core) == core) {
      return line.way;
    }
  }
  return GemmWay::kLibrary;
}

// Products so small leave out columns of samples that are all zero; larger ones skip each zero.
inline constexpr int64_t kColumnsUpTo = int64_t{1} << 20;

// Zeros of the left factor are skipped from here on, counted in multiply-adds and columns of the output ...
inline constexpr int64_t kSparseFrom = int64_t{1} << 20;
inline constexpr int64_t kSparseFromColumns = 64;

// ... where a smaller share of it than this is not zero. Alone on a machine it pays from six in ten on, but it lives of
// its caches: in a step of layers 4096 wide, whose weights come from memory, half was slower than none left out.
constexpr double SparseBelow(ProductPrecision precision, const KernelChoice& kernels) {
  // Elsewhere than on Intel's cores products of pairs take half the time.
  if (precision == ProductPrecision::kBf16 && kernels.large_bf16 != nullptr) return 0.25;
  return 0.4;
}

}  // namespace lockstep::cpu
