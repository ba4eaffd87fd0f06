// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cpu/cpu_gemm.h"

#include <omp.h>

#include "oneapi/dnnl/dnnl.h"

namespace lockstep::cpu {

namespace {

// Below this a call of the library costs more than its matrix units save.
constexpr int64_t kMatrixUnitsFrom = int64_t{1} << 20;

}  // namespace

bool PrefersOwnGemm(int64_t m, int64_t n, int64_t k, int threads) {
  // Measured with lockstep-bench-step (BM_Gemm).
  const int64_t limit = threads > 1 ? int64_t{1} << 20 : int64_t{1} << 24;
  return m * n * k <= limit;
}

// Measured with lockstep-bench-step (BM_LargeGemm): oneDNN is ahead by 2 % where the first factor is transposed, and
// behind by as much and more elsewhere.
bool PrefersOwnLargeGemm(const GemmArgs& args) { return !args.transpose_a; }

CpuGemm::CpuGemm(const KernelChoice& kernels, int threads)
    : kernels_(kernels), threads_(threads), large_(kernels, threads), matmul_(kernels, threads) {}

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

bool CpuGemm::Run(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) {
  const int64_t m = out.shape[0], n = out.shape[1], k = a.shape[args.transpose_a ? 0 : 1];
  if (out.type == DType::kF64) {
    RunOwn<double>(args, a, b, out);
    return false;
  }
  if (k > 0 && args.precision == ProductPrecision::kBf16) {
    // The library has the matrix units of a machine that has such.
    if (matmul_.has_matrix_units() && m * n * k > kMatrixUnitsFrom && !args.accumulate) {
      matmul_.Run(args, a, b, out);
      return false;
    }
    if (large_.has(ProductPrecision::kBf16)) return RunLarge(args, a, b, bias, out);
    RunRounded(args, a, b, out);
    return false;
  }
  if (k > 0 && !PrefersOwnGemm(m, n, k, threads_) && large_.has(ProductPrecision::kFloat) &&
      PrefersOwnLargeGemm(args)) {
    return RunLarge(args, a, b, bias, out);
  }
  RunFloat(args, a, b, out);
  return false;
}

bool CpuGemm::RunLarge(const GemmArgs& args, Tensor a, Tensor b, Tensor bias, Tensor out) {
  if (CpuLargeGemm::Applies(args.activation)) {
    large_.Run(args, a, b, bias, out);
    return true;
  }
  GemmArgs plain = args;
  plain.activation = {};
  large_.Run(plain, a, b, {}, out);
  return false;
}

void CpuGemm::RunRounded(const GemmArgs& args, Tensor a, Tensor b, Tensor out) {
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
