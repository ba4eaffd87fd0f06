// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/cpu_gemm.h"

#include <omp.h>

#include <string_view>

#include "oneapi/dnnl/dnnl.h"

namespace lockstep::cpu {

bool PrefersOwnGemm(int64_t m, int64_t n, int64_t k, int threads) {
  // Measured with lockstep-bench-step (BM_Gemm).
  const int64_t limit = threads > 1 ? int64_t{1} << 20 : int64_t{1} << 24;
  return m * n * k <= limit;
}

bool HasBf16(const KernelChoice& kernels) { return std::string_view(kernels.name) == "avx512" && HasBf16Library(); }

CpuGemm::CpuGemm(const KernelChoice& kernels, int threads)
    : kernels_(kernels), threads_(threads), has_bf16_(HasBf16(kernels)), matmul_(kernels, threads) {}

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

void CpuGemm::Run(const GemmArgs& args, Tensor a, Tensor b, Tensor out) {
  const int64_t m = out.shape[0], n = out.shape[1], k = a.shape[args.transpose_a ? 0 : 1];
  if (m == 0 || n == 0) return;
  if (out.type == DType::kF64) return RunOwn<double>(args, a, b, out);
  if (args.precision == ProductPrecision::kBf16 && k > 0) return RunBf16(args, a, b, out);
  RunFloat(args, a, b, out);
}

// Without the machine's help: what is rounded to BF16 is multiplied as floats, which is exact.
void CpuGemm::RunBf16(const GemmArgs& args, Tensor a, Tensor b, Tensor out) {
  if (has_bf16_ && !args.accumulate) return matmul_.Run(args, a, b, out);
  const auto rounded = [&](Tensor x, std::vector<float>& to) {
    const auto n = static_cast<size_t>(x.elements());
    if (to.size() < n) to.resize(n);
    kernels_.f32->round_bf16(x.as<float>(), x.elements(), to.data());
    x.data = to.data();
    return x;
  };
  const Tensor left = rounded(a, rounded_a_);
  RunFloat(args, left, rounded(b, rounded_b_), out);
}

void CpuGemm::RunFloat(const GemmArgs& args, Tensor a, Tensor b, Tensor out) {
  const int64_t m = out.shape[0], n = out.shape[1], k = a.shape[args.transpose_a ? 0 : 1];
  if (k == 0 || PrefersOwnGemm(m, n, k, threads_)) return RunOwn<float>(args, a, b, out);
  // The count is the calling thread's own setting; another device of this thread may have changed it.
  if (omp_get_max_threads() != threads_) omp_set_num_threads(threads_);
  dnnl_sgemm(args.transpose_a ? 'T' : 'N', args.transpose_b ? 'T' : 'N', m, n, k, 1.0f, a.as<const float>(),
             args.transpose_a ? m : k, b.as<const float>(), args.transpose_b ? k : n, args.accumulate ? 1.0f : 0.0f,
             out.as<float>(), n);
}

}  // namespace lockstep::cpu
