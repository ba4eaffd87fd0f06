// SPDX-License-Identifier: Apache-2.0
// The CPU's loops, compiled once for each instruction set and chosen at run time. No loop contracts or
// reorders arithmetic within an element or a sum, so every instruction set gives the same bits; only
// `gemm` in float differs between sets with and without fused multiply-add.
#pragma once

#include <bit>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "common/rng.h"
#include "worker/device/cpu/large_gemm.h"
#include "worker/device/device.h"

namespace lockstep {

#define LOCKSTEP_INLINE __attribute__((always_inline)) inline

// For the kernels: a function of the library's might be taken from a set that the machine does not have.
LOCKSTEP_INLINE int64_t Least(int64_t a, int64_t b) { return a < b ? a : b; }

// out[m, n] = op(a) op(b), or += with accumulate. Element (i, p) of op(a) is a[i * a_row + p * a_column].
template <typename T>
struct GemmProblem {
  int64_t m = 0, n = 0, k = 0;
  const T* a = nullptr;
  int64_t a_row = 0, a_column = 0;
  // op(b): [k, n]; stored so, or as [n, k] with transpose_b.
  const T* b = nullptr;
  bool transpose_b = false;
  // Not null, and then without transpose_b: row p of b is the one stored as row b_rows[p].
  const uint16_t* b_rows = nullptr;
  T* out = nullptr;
  bool accumulate = false;
  // kGemmPackBytes bytes on a 64-byte boundary.
  T* pack = nullptr;
};

// Images [planes, in] and outputs [planes, out]; index 0 is the height. Every window has a place inside.
struct PoolProblem {
  int64_t planes = 0;
  int64_t in[2] = {0, 0};
  int64_t out[2] = {0, 0};
  int64_t size[2] = {1, 1};
  int64_t stride[2] = {1, 1};
  // Before the image.
  int64_t pad[2] = {0, 0};
};

// Depth of one pass over k, and the room for a panel of b that deep and two vectors wide.
inline constexpr int64_t kGemmDepth = 2048;
inline constexpr size_t kGemmPackBytes = kGemmDepth * 128;

// T is float or double. Pointers are dense; n counts elements unless said otherwise.
template <typename T>
struct CpuKernels {
  // Each output is summed over p = 0, 1, ... in order, whatever the other sizes are.
  void (*gemm)(const GemmProblem<T>& problem);
  // out may alias a or b.
  void (*add)(const T* a, const T* b, T* out, int64_t n);
  // out[i, :] = rows[indices[i], :] * scale + offset.
  void (*gather_bytes)(const uint8_t* rows, const int64_t* indices, int64_t batch, int64_t width, T scale, T offset,
                       T* out);
  void (*gather)(const T* rows, const int64_t* indices, int64_t batch, int64_t width, T scale, T offset, T* out);
  // Of rows of n: to[rows[i], :] = from[i, :], for i in [0, count), where rows ascends; all other rows of `total`
  // become 0.
  void (*spread_rows)(const T* from, const uint16_t* rows, int64_t count, int64_t n, int64_t total, T* to);
  // w[rows[i], :] -= rate * g[i, :], of rows of n.
  void (*step_rows)(T rate, const T* g, const uint16_t* rows, int64_t count, int64_t n, T* w);
  // y[i, j] = activation(y[i, j] + bias[j]); bias may be null.
  void (*bias_activation)(const ActivationArgs& args, const T* bias, int64_t rows, int64_t n, T* y);
  // x may be null where GradientNeedsInput says so; dx may alias dy.
  void (*activation_backward)(const ActivationArgs& args, const T* x, const T* y, const T* dy, int64_t n, T* dx);
  // See Device::PoolForward and PoolBackward. done: room for a row of outputs.
  void (*max_pool_forward)(const PoolProblem& problem, const T* x, T* y);
  void (*max_pool_backward)(const PoolProblem& problem, const T* x, const T* y, const T* dy, T* dx,
                            unsigned char* done);
  void (*average_pool_forward)(const PoolProblem& problem, const T* x, T* y);
  void (*average_pool_backward)(const PoolProblem& problem, const T* dy, T* dx);
  // y[i] = x[i] scale + shift, for one channel of n places.
  void (*scale_shift)(const T* x, int64_t n, T scale, T shift, T* y);
  // dx[i] = a dy[i] + b x[i] + c.
  void (*norm_backward)(const T* x, const T* dy, int64_t n, T a, T b, T c, T* dx);
  // Adds {sum of x, sum of x^2}; eight sums side by side, added in order at the end.
  void (*square_sums)(const T* x, int64_t n, double* sums);
  // Adds {sum of dy, sum of dy x}.
  void (*product_sums)(const T* x, const T* dy, int64_t n, double* sums);
  void (*sum_rows)(const T* dy, int64_t rows, int64_t n, T* out);
  // Rows of n. y = softmax(x), max = the rows' largest, sum = the rows' sums of exp(x - max); a null pointer: not
  // wanted. y may alias x.
  void (*softmax)(const T* x, int64_t rows, int64_t n, T* y, T* max, T* sum);
  bool (*all_finite)(const T* x, int64_t n);
  // y may alias x.
  void (*dropout)(const T* x, int64_t rows, int64_t width, T rate, const RngStream& stream, int64_t first_row, T* y);
  // state: as many pointers as the rule has.
  void (*update)(UpdateRule rule, const UpdateArgs& args, T* w, T* g, T* const* state, int64_t n);
  double (*sum_squares)(const T* x, int64_t n);
  // To nearest, ties to even; what is not a number stays none.
  void (*to_bf16)(const T* x, int64_t n, uint16_t* y);
  // y[i] = x[i] rounded to BF16; y may alias x.
  void (*round_bf16)(const T* x, int64_t n, T* y);
};

// lane_kernels.h
struct LaneKernels;
struct LanePairKernels;
// sparse_gemm.h
struct SparseKernels;
struct ByteLists;
// cpu_columns.h
struct GatherColumnsProblem;
using GatherColumnsFunction = int64_t (*)(const GatherColumnsProblem& problem);

// What decides between several ways of one set (crossovers.h).
enum class CpuCore : uint8_t {
  kOther,
  // Two 512-bit multipliers for floats, but half as many products of BF16 pairs as of floats a cycle.
  kIntel,
};

// The widest set this machine has, and its name.
struct KernelChoice {
  const char* name;
  const CpuKernels<float>* f32;
  const CpuKernels<double>* f64;
  const LaneKernels* lanes;
  // Null where the set or the machine has none: of floats, of floats rounded to BF16, what skips zeros, and what lists
  // them from bytes.
  LargeGemmFunction large_f32 = nullptr;
  LargeGemmFunction large_bf16 = nullptr;
  const LanePairKernels* lane_pairs = nullptr;
  const SparseKernels* sparse = nullptr;
  const ByteLists* byte_lists = nullptr;
  // Null: the one for all machines.
  GatherColumnsFunction gather_columns = nullptr;
  CpuCore core = CpuCore::kOther;
};
KernelChoice ChooseKernels();
// All sets this machine has, for tests.
int AvailableKernels(KernelChoice* out, int capacity);
// "cpu" as MakeCpuDevice makes it, but with these kernels, for tests.
std::unique_ptr<Device> MakeCpuDeviceWith(const KernelChoice& kernels, int threads);

namespace kernels_base {
extern const CpuKernels<float> kF32;
extern const CpuKernels<double> kF64;
}  // namespace kernels_base
namespace kernels_avx2 {
extern const CpuKernels<float> kF32;
extern const CpuKernels<double> kF64;
}  // namespace kernels_avx2
namespace kernels_avx512 {
extern const CpuKernels<float> kF32;
extern const CpuKernels<double> kF64;
}  // namespace kernels_avx512

}  // namespace lockstep
