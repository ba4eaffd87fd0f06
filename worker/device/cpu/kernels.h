// SPDX-License-Identifier: Apache-2.0
// The CPU's loops, compiled once for each instruction set and chosen at run time. No loop contracts or
// reorders arithmetic within an element or a sum, so every instruction set gives the same bits.
#pragma once

#include <cstdint>

#include "common/rng.h"
#include "worker/device/device.h"

namespace lockstep {

// T is float or double. Pointers are dense; n counts elements unless said otherwise.
template <typename T>
struct CpuKernels {
  // out may alias a or b.
  void (*add)(const T* a, const T* b, T* out, int64_t n);
  // out[i, :] = rows[indices[i], :] * scale + offset.
  void (*gather_bytes)(const uint8_t* rows, const int64_t* indices, int64_t batch, int64_t width, T scale, T offset,
                       T* out);
  void (*gather)(const T* rows, const int64_t* indices, int64_t batch, int64_t width, T scale, T offset, T* out);
  // y[i, j] = activation(y[i, j] + bias[j]); bias may be null.
  void (*bias_activation)(Activation kind, const T* bias, int64_t rows, int64_t n, T* y);
  // dx = dy f'(y); dx may alias dy.
  void (*activation_backward)(Activation kind, const T* y, const T* dy, int64_t n, T* dx);
  void (*sum_rows)(const T* dy, int64_t rows, int64_t n, T* out);
  // y may alias x.
  void (*dropout)(const T* x, int64_t rows, int64_t width, T rate, const RngStream& stream, int64_t first_row, T* y);
  void (*sgd)(T* w, const T* g, int64_t n, T learning_rate);
  void (*momentum)(T* w, const T* g, T* v, int64_t n, T learning_rate, T momentum, bool nesterov);
  void (*adam)(T* w, const T* g, T* m, T* v, int64_t n, T step_size, T beta_1, T beta_2, T epsilon);
};

// The widest set this machine has, and its name.
struct KernelChoice {
  const char* name;
  const CpuKernels<float>* f32;
  const CpuKernels<double>* f64;
};
KernelChoice ChooseKernels();
// All sets this machine has, for tests.
int AvailableKernels(KernelChoice* out, int capacity);

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
