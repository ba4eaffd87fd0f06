// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/cpu_sparse_gemm.h"

#include <algorithm>

#include "worker/device/cpu/crossovers.h"
#include "worker/device/cpu/product_parts.h"

namespace lockstep::cpu {

namespace {

constexpr int64_t kRowsLookedThrough = 8;

}  // namespace

bool CpuSparseGemm::Pays(const GemmArgs& args, Tensor a, Tensor out) {
  const int64_t rows = a.shape[0], columns = a.shape[1];
  const int64_t n = out.shape[1];
  if (kernels_.sparse == nullptr || n < kSparseFromColumns || n * rows * columns < kSparseFrom) return false;
  TakeScratch();
  const int64_t step = (rows + kRowsLookedThrough - 1) / kRowsLookedThrough;
  int64_t seen = 0, there = 0;
  for (int64_t row = 0; row < rows; row += step, seen += columns) {
    there += kernels_.sparse->count_non_zeros(a.as<const float>() + row * columns, columns);
  }
  return static_cast<double>(there) < SparseBelow(args.precision, kernels_) * static_cast<double>(seen);
}

bool CpuSparseGemm::TakesBytes(int64_t columns, ProductPrecision precision) const {
  // Where pairs are fast, fewer zeros are left out.
  const bool pairs = precision == ProductPrecision::kBf16 && kernels_.large_bf16 != nullptr;
  return kernels_.sparse != nullptr && kernels_.byte_lists != nullptr && columns >= kSparseFromColumns && !pairs;
}

void CpuSparseGemm::TakeScratch() {
  while (scratch_.size() < static_cast<size_t>(threads_)) {
    scratch_.push_back(std::make_unique_for_overwrite<SparseScratch>());
  }
}

void CpuSparseGemm::Run(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) {
  TakeScratch();
  RunParts(ProblemOf(args, a, b, bias, out), threads_, kSparseColumns, [&](int part, LargeGemmProblem problem) {
    kernels_.sparse->gemm({.product = problem,
                           .bytes = a.byte_rows,
                           .list = kernels_.byte_lists,
                           .round = args.precision == ProductPrecision::kBf16 ? kernels_.f32->round_bf16 : nullptr,
                           .scratch = scratch_[static_cast<size_t>(part)].get()});
  });
}

}  // namespace lockstep::cpu
