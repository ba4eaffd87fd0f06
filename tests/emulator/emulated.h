// SPDX-License-Identifier: Apache-2.0
// Runs CUDA kernels on the host, so that their arithmetic, their indices and their barriers are tested where there is
// no GPU. `emulate.py` makes C++ of the device's sources: it puts this header before them, and launches become calls of
// Launch. Blocks run one after another; the threads of one take turns, and change at barriers and shuffles only.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>

#include "tests/emulator/capture.h"

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __restrict__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
// Of a block, of which there is one at a time.
#define __shared__ static
#define __restrict__
#define __launch_bounds__(...)

namespace lockstep::emulated {

struct Place {
  dim3 thread, block;
};
// Of the thread whose turn it is.
extern Place here;
extern dim3 block_size, grid_size;

// Every thread of the grid calls `kernel`. A thread that waits for one which has returned, or for one that waits
// elsewhere, is a deadlock on a GPU, and ends the program here.
void Launch(dim3 grid, dim3 block, const std::function<void()>& kernel);
void BlockBarrier();
// The value of the lane whose number differs in `mask`.
uint64_t Exchange(uint64_t value, int mask);
bool AllOfWarp(bool value);
// What emulate.py makes of <<<grid, block, shared, stream>>>.
template <typename Kernel>
void Launch(dim3 grid, dim3 block, size_t, cudaStream_t stream, const Kernel& kernel) {
  // A GPU's limit for the arguments, which are all that a kernel takes along.
  static_assert(sizeof(Kernel) <= 4096);
  CheckStream(stream);
  Enqueue([=] { Launch(grid, block, std::function<void()>(kernel)); });
}

}  // namespace lockstep::emulated

#define threadIdx (::lockstep::emulated::here.thread)
#define blockIdx (::lockstep::emulated::here.block)
#define blockDim (::lockstep::emulated::block_size)
#define gridDim (::lockstep::emulated::grid_size)

inline void __syncthreads() { ::lockstep::emulated::BlockBarrier(); }
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(value));
  bits = ::lockstep::emulated::Exchange(bits, mask);
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}
inline int __all_sync(unsigned, bool value) { return ::lockstep::emulated::AllOfWarp(value) ? 1 : 0; }
inline double __longlong_as_double(long long bits) {
  double value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}
template <typename T>
T atomicAdd(T* at, T value) {
  const T before = *at;
  *at += value;
  return before;
}
