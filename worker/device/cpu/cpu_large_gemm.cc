// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/cpu_large_gemm.h"

#include <algorithm>

namespace lockstep::cpu {

void CpuLargeGemm::Run(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) {
  const LargeGemmProblem whole{.m = out.shape[0],
                               .n = out.shape[1],
                               .k = a.shape[args.transpose_a ? 0 : 1],
                               .a = a.as<const float>(),
                               .a_stride = a.shape[1],
                               .transpose_a = args.transpose_a,
                               .b = b.as<const float>(),
                               .b_stride = b.shape[1],
                               .transpose_b = args.transpose_b,
                               .out = out.as<float>(),
                               .out_stride = out.shape[1],
                               .accumulate = args.accumulate,
                               .bias = bias.as<const float>(),
                               .relu = !args.activation.linear()};
  if (packs_.empty()) packs_.resize(static_cast<size_t>(threads_));
  Pack* const packs = packs_.data();
  const LargeGemmFunction function = Function(args.precision);
  const auto run = [=](int64_t part, int64_t parts) {
    LargeGemmProblem g = whole;
    g.pack = packs[part].units;
    const int64_t panels = (whole.n + kLargeTileColumns - 1) / kLargeTileColumns;
    if (panels >= parts) {
      const int64_t first = panels * part / parts * kLargeTileColumns;
      g.n = std::min(panels * (part + 1) / parts * kLargeTileColumns, whole.n) - first;
      g.b += whole.transpose_b ? first * whole.b_stride : first;
      g.out += first;
      if (g.bias != nullptr) g.bias += first;
    } else {
      const int64_t first = whole.m * part / parts;
      g.m = whole.m * (part + 1) / parts - first;
      g.a += whole.transpose_a ? first : first * whole.a_stride;
      g.out += first * whole.out_stride;
    }
    if (g.m > 0 && g.n > 0) function(g);
  };
  if (threads_ == 1) return run(0, 1);
  const int threads = threads_;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int part = 0; part < threads; ++part) run(part, threads);
}

}  // namespace lockstep::cpu
