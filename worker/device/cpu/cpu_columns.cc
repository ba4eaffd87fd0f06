// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/cpu_columns.h"

#include <algorithm>
#include <array>

namespace lockstep::cpu {

int64_t GatherColumns(const GatherColumnsProblem& g) {
  std::array<uint8_t, ColumnList::kMaxWidth> any;
  const auto row = [&](int64_t i) { return g.table + g.indices[i] * g.width; };
  std::fill_n(any.begin(), g.width, uint8_t{0});
  for (int64_t i = 0; i < g.rows; ++i) {
    const uint8_t* from = row(i);
    for (int64_t c = 0; c < g.width; ++c) any[static_cast<size_t>(c)] |= from[c];
  }
  int64_t count = 0;
  for (int64_t c = 0; c < g.width; ++c) {
    g.columns[count] = static_cast<uint16_t>(c);
    count += any[static_cast<size_t>(c)] != 0;
  }
  for (int64_t i = 0; i < g.rows; ++i) {
    const uint8_t* from = row(i);
    float* const to = g.out + i * count;
    for (int64_t c = 0; c < count; ++c) to[c] = static_cast<float>(from[g.columns[c]]) * g.scale;
  }
  return count;
}

void CpuColumns::Multiply(const GemmArgs& args, Tensor a, Tensor b, Tensor out, float* pack) {
  const ColumnList& list = *a.columns;
  const int64_t n = out.shape[1];
  if (!args.transpose_a) {
    return kernels_.gemm({.m = out.shape[0],
                          .n = n,
                          .k = list.count,
                          .a = a.as<const float>(),
                          .a_row = list.count,
                          .a_column = 1,
                          .b = b.as<const float>(),
                          .b_rows = list.columns,
                          .out = out.as<float>(),
                          .pack = pack});
  }
  // As much as there may be, so that a later step takes no memory.
  rows_.resize(static_cast<size_t>(out.elements()));
  if (list.count > 0) MultiplyTransposed(a, b, 0, list.count, pack);
  kernels_.spread_rows(rows_.data(), list.columns, list.count, n, out.shape[0], out.as<float>());
}

// Some rows at a time, whose gradient stays in the nearest cache.
void CpuColumns::Step(double step_size, Tensor x, Tensor dy, Tensor w, float* pack) {
  constexpr int64_t kRows = 64;
  const ColumnList& list = *x.columns;
  const int64_t n = w.shape[1];
  rows_.resize(static_cast<size_t>(kRows * n));
  for (int64_t i = 0; i < list.count; i += kRows) {
    const int64_t count = std::min(kRows, list.count - i);
    MultiplyTransposed(x, dy, i, count, pack);
    kernels_.step_rows(static_cast<float>(step_size), rows_.data(), list.columns + i, count, n, w.as<float>());
  }
}

void CpuColumns::MultiplyTransposed(const Tensor& x, const Tensor& dy, int64_t first, int64_t count, float* pack) {
  kernels_.gemm({.m = count,
                 .n = dy.shape[1],
                 .k = dy.shape[0],
                 .a = x.as<const float>() + first,
                 .a_row = 1,
                 .a_column = x.columns->count,
                 .b = dy.as<const float>(),
                 .out = rows_.data(),
                 .pack = pack});
}

}  // namespace lockstep::cpu
