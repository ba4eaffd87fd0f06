// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/product_parts.h"

#include <algorithm>

namespace lockstep::cpu {

namespace {

LargeGemmProblem PartOf(const LargeGemmProblem& whole, int64_t part, int64_t parts, int64_t panel_columns) {
  LargeGemmProblem g = whole;
  const int64_t panels = (whole.n + panel_columns - 1) / panel_columns;
  if (panels >= parts) {
    const int64_t first = panels * part / parts * panel_columns;
    g.n = std::min(panels * (part + 1) / parts * panel_columns, whole.n) - first;
    g.b += whole.transpose_b ? first * whole.b_stride : first;
    g.out += first;
    if (g.bias != nullptr) g.bias += first;
  } else {
    const int64_t first = whole.m * part / parts;
    g.m = whole.m * (part + 1) / parts - first;
    g.first_row = first;
    if (g.a != nullptr) g.a += whole.transpose_a ? first : first * whole.a_stride;
    g.out += first * whole.out_stride;
  }
  return g;
}

}  // namespace

LargeGemmProblem ProblemOf(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) {
  return {.m = out.shape[0],
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
}

void RunParts(const LargeGemmProblem& whole, int threads, int64_t panel_columns,
              absl::FunctionRef<void(int part, LargeGemmProblem problem)> run) {
  if (threads == 1) return run(0, whole);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int part = 0; part < threads; ++part) {
    const LargeGemmProblem g = PartOf(whole, part, threads, panel_columns);
    if (g.m > 0 && g.n > 0) run(part, g);
  }
}

}  // namespace lockstep::cpu
