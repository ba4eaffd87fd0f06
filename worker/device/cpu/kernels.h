// SPDX-License-Identifier: Apache-2.0
// The CPU's hot loops as a table of functions, compiled once per instruction set. Pointers are dense
// arrays; a shape's sizes are not negative. Plain types only: nothing here may pull shared inline
// code into an instruction set's translation unit.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lockstep::cpu {

enum class ActivationKind : uint8_t { kLinear, kRelu, kSigmoid, kTanh };

// out[m, n] = op(a) op(b), or += with accumulate. Element (i, p) of op(a) is a[i * a_row + p * a_column].
template <typename T>
struct GemmProblem {
  int64_t m = 0, n = 0, k = 0;
  const T* a = nullptr;
  int64_t a_row = 0, a_column = 0;
  // op(b): [k, n]; stored so, or as [n, k] with transpose_b.
  const T* b = nullptr;
  bool transpose_b = false;
  T* out = nullptr;
  bool accumulate = false;
  // kPackBytes bytes on a 64-byte boundary.
  T* pack = nullptr;
};

// Depth of one pass over k, and the room for a panel of b that deep and two vectors wide.
inline constexpr int64_t kGemmDepth = 2048;
inline constexpr size_t kPackBytes = kGemmDepth * 128;

// Adam's constants; see math::AdamUpdate.
struct AdamConstants {
  double learning_rate, beta_1, beta_2, epsilon, t;
};

template <typename T>
struct Kernels {
  // Each output is summed over p = 0, 1, ... in order, in fused or separate steps as the instruction
  // set has them; nothing else changes its bits.
  void (*gemm)(const GemmProblem<T>& problem);
  // In place: x = f(x + bias); bias: [n] or null.
  void (*bias_activation)(ActivationKind kind, T* x, const T* bias, int64_t rows, int64_t n);
  void (*activation_forward)(ActivationKind kind, const T* x, T* y, int64_t n);
  void (*activation_backward)(ActivationKind kind, const T* y, const T* dy, T* dx, int64_t n);
  void (*sum_rows)(const T* dy, T* out, int64_t rows, int64_t n);
  void (*softmax_forward)(const T* x, T* y, int64_t rows, int64_t n);
  void (*softmax_backward)(const T* y, const T* dy, T* dx, int64_t rows, int64_t n);
  // dlogits may be null. A label outside [0, n) makes the loss NaN and its row's gradient zero.
  void (*softmax_cross_entropy)(const T* logits, const int32_t* labels, double scale, T* dlogits, double* stats,
                                int64_t rows, int64_t n);
  void (*cross_entropy)(const T* p, const int32_t* labels, double scale, T* dp, double* stats, int64_t rows, int64_t n);
  void (*mean_squared_error)(const T* p, const T* t, double scale, T* dp, double* stats, int64_t rows, int64_t n);
  void (*fill)(T* out, T value, int64_t n);
  void (*add)(const T* a, const T* b, T* out, int64_t n);
  // One row: out = row * scale + offset.
  void (*convert_u8)(const uint8_t* row, float scale, float offset, T* out, int64_t n);
  void (*convert)(const T* row, float scale, float offset, T* out, int64_t n);
  void (*sgd)(T* w, const T* g, double learning_rate, int64_t n);
  void (*momentum)(T* w, const T* g, T* v, double learning_rate, double momentum, bool nesterov, int64_t n);
  void (*adam)(T* w, const T* g, T* m, T* v, const AdamConstants& constants, int64_t n);
  bool (*all_finite)(const T* x, int64_t n);
};

// One instruction set's table.
struct KernelSet {
  const char* name;
  Kernels<float> f32;
  Kernels<double> f64;
};

// The best set this machine can run; always the same one.
const KernelSet& ChooseKernels();

extern const KernelSet kBaselineKernels;
// Only where the target is x86-64.
extern const KernelSet kAvx2Kernels;
extern const KernelSet kAvx512Kernels;

}  // namespace lockstep::cpu
