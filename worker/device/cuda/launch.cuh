// SPDX-License-Identifier: Apache-2.0
// How kernels over n independent elements are launched, and sums in an order that the length alone decides.
#pragma once

#include <algorithm>
#include <cstdint>

#include "worker/device/cuda/cuda_context.h"

namespace lockstep::cuda {

inline constexpr int kThreads = 256;

// Blocks for n elements: no more than keep the machine busy, since threads stride over the rest.
inline int BlocksFor(const Context& context, int64_t n, int threads = kThreads) {
  const int64_t wanted = (n + threads - 1) / threads;
  return static_cast<int>(std::clamp<int64_t>(wanted, 1, static_cast<int64_t>(context.sm_count) * 16));
}

// halted: see Recording.
template <typename F>
__global__ void ForEachKernel(int64_t n, F f, const int64_t* halted) {
  if (halted != nullptr && *halted != 0) return;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) f(i);
}

// f(i) for each i below n, in any order. f: a struct with a __device__ operator()(int64_t) const.
template <typename F>
void ForEach(Context& context, int64_t n, const F& f) {
  if (n <= 0) return;
  ForEachKernel<<<BlocksFor(context, n), kThreads, 0, context.stream>>>(n, f, context.recording.halted());
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
}

// The sum of all threads' values, in thread 0, as a binary tree over the thread's index. blockDim.x: Threads, a power
// of two; every thread of the block calls. `shared`: Threads values, free to use again after the next __syncthreads.
template <int Threads, typename T>
__device__ T BlockSum(T value, T* shared) {
  shared[threadIdx.x] = value;
  __syncthreads();
  for (int half = Threads / 2; half > 0; half /= 2) {
    if (static_cast<int>(threadIdx.x) < half) shared[threadIdx.x] = shared[threadIdx.x] + shared[threadIdx.x + half];
    __syncthreads();
  }
  return shared[0];
}

}  // namespace lockstep::cuda
