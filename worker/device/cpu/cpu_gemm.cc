// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/cpu_gemm.h"

#include <omp.h>

#include "oneapi/dnnl/dnnl.h"
#include "worker/device/cpu/crossovers.h"
#include "worker/device/cpu/product_parts.h"

namespace lockstep::cpu {

CpuGemm::CpuGemm(const KernelChoice& kernels, int threads)
    : kernels_(kernels),
      threads_(threads),
      large_(kernels, threads),
      sparse_(kernels, threads),
      columns_(kernels),
      matmul_(kernels, threads) {}

template <typename T>
void CpuGemm::RunOwn(const GemmArgs& args, Tensor a, Tensor b, Tensor out) {
  GemmProblem<T> g;
  g.m = out.shape[0];
  g.n = out.shape[1];
  g.k = a.shape[args.transpose_a ? 0 : 1];
  g.a = a.as<const T>();
  g.a_row = args.transpose_a ? 1 : g.k;
  g.a_column = args.transpose_a ? g.m : 1;
  g.b = b.as<const T>();
  g.transpose_b = args.transpose_b;
  g.out = out.as<T>();
  g.accumulate = args.accumulate;
  g.pack = reinterpret_cast<T*>(pack_);
  if constexpr (sizeof(T) == 4) {
    kernels_.f32->gemm(g);
  } else {
    kernels_.f64->gemm(g);
  }
}

SampleForm CpuGemm::FormOfSamples(int64_t rows, int64_t width, int64_t n, ProductPrecision precision) const {
  const bool rounds = precision == ProductPrecision::kBf16;
  if (rows * width * n < kColumnsUpTo) return rounds ? SampleForm::kAll : SampleForm::kColumns;
  return sparse_.TakesBytes(n, precision) ? SampleForm::kBytes : SampleForm::kAll;
}

const char* CpuGemm::Bf16Name() const {
  if (matmul_.has_matrix_units()) return "bfloat16 on matrix units";
  return large_.has(ProductPrecision::kBf16) ? "bfloat16" : "bfloat16 in float";
}

bool CpuGemm::Run(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) {
  const int64_t m = out.shape[0], n = out.shape[1], k = a.shape[args.transpose_a ? 0 : 1];
  if (out.type == DType::kF64) {
    RunOwn<double>(args, a, b, out);
    return false;
  }
  if (a.columns != nullptr) {
    columns_.Multiply(args, a, b, out, reinterpret_cast<float*>(pack_));
    return false;
  }
  if (a.byte_rows != nullptr) {
    return RunFinished(args, bias, [&](const GemmArgs& own, Tensor added) { sparse_.Run(own, a, b, added, out); });
  }
  if (k > 0 && sparse_.Pays(args, a, out)) {
    return RunFinished(args, bias, [&](const GemmArgs& own, Tensor added) { sparse_.Run(own, a, b, added, out); });
  }
  if (k > 0 && args.precision == ProductPrecision::kBf16) {
    // The library has the matrix units of a machine that has such.
    if (matmul_.has_matrix_units() && m * n * k > kMatrixUnitsFrom && !args.accumulate) {
      matmul_.Run(args, a, b, out);
      return false;
    }
    if (large_.has(ProductPrecision::kBf16)) return RunLarge(args, a, b, bias, out);
    return RunRounded(args, a, b, bias, out);
  }
  return RunFloat(args, a, b, bias, out);
}

bool CpuGemm::RunLarge(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) {
  return RunFinished(args, bias, [&](const GemmArgs& own, Tensor added) { large_.Run(own, a, b, added, out); });
}

bool CpuGemm::RunFinished(const GemmArgs& args, Tensor bias,
                          absl::FunctionRef<void(const GemmArgs& args, Tensor bias)> run) {
  if (AppliesActivation(args.activation)) {
    run(args, bias);
    return true;
  }
  GemmArgs plain = args;
  plain.activation = {};
  run(plain, {});
  return false;
}

bool CpuGemm::RunRounded(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) {
  const auto rounded = [&](Tensor x, std::vector<float>& to) {
    const auto n = static_cast<size_t>(x.elements());
    if (to.size() < n) to.resize(n);
    kernels_.f32->round_bf16(x.as<float>(), x.elements(), to.data());
    x.data = to.data();
    return x;
  };
  const Tensor left = rounded(a, rounded_a_);
  GemmArgs exact = args;
  exact.precision = ProductPrecision::kFloat;
  return RunFloat(exact, left, rounded(b, rounded_b_), bias, out);
}

bool CpuGemm::RunFloat(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) {
  const int64_t m = out.shape[0], n = out.shape[1], k = a.shape[args.transpose_a ? 0 : 1];
  const GemmWay way = FloatGemmWay(m, n, k, args.transpose_a, threads_, kernels_.core);
  if (k == 0 || way == GemmWay::kSmall) {
    RunOwn<float>(args, a, b, out);
    return false;
  }
  if (way == GemmWay::kLarge && large_.has(ProductPrecision::kFloat)) return RunLarge(args, a, b, bias, out);
  // The count is the calling thread's own setting; another device of this thread may have changed it.
  if (omp_get_max_threads() != threads_) omp_set_num_threads(threads_);
  dnnl_sgemm(args.transpose_a ? 'T' : 'N', args.transpose_b ? 'T' : 'N', m, n, k, 1.0f, a.as<const float>(),
             args.transpose_a ? m : k, b.as<const float>(), args.transpose_b ? k : n, args.accumulate ? 1.0f : 0.0f,
             out.as<float>(), n);
  return false;
}

}  // namespace lockstep::cpu
