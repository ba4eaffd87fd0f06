// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/cpu_large_gemm.h"

#include "worker/device/cpu/product_parts.h"

namespace lockstep::cpu {

void CpuLargeGemm::Run(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) {
  if (packs_.empty()) packs_.resize(static_cast<size_t>(threads_));
  Pack* const packs = packs_.data();
  const LargeGemmFunction function = Function(args.precision);
  RunParts(ProblemOf(args, a, b, bias, out), threads_, kLargeTileColumns, [=](int part, LargeGemmProblem problem) {
    problem.pack = packs[part].units;
    function(problem);
  });
}

}  // namespace lockstep::cpu
