// SPDX-License-Identifier: Apache-2.0
// Sums and maxima of the losses, metrics and normalisations. The order of every sum is decided by the shape alone:
// within a block a tree over the threads, then a tree over the blocks' results, never by who is done first.
#pragma once

#include <cstdint>

#include "worker/device/cuda/cuda_context.h"
#include "worker/device/cuda/launch.cuh"

namespace lockstep::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

// All lanes of the warp call, and all get the sum.
template <typename T>
__device__ T WarpSum(T value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, distance);
  }
  return value;
}

// The largest; what is no number is left out.
template <typename T>
__device__ T WarpMax(T value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, value, distance);
    value = value < other ? other : value;
  }
  return value;
}

template <typename T>
__device__ T LowestOf() {
  return static_cast<T>(-__longlong_as_double(0x7ff0000000000000ll));
}

// The largest of a row of n > 0, by one warp.
template <typename T>
__device__ T RowMax(const T* row, int64_t n) {
  T largest = LowestOf<T>();
  for (int64_t j = threadIdx.x % kWarp; j < n; j += kWarp) largest = largest < row[j] ? row[j] : largest;
  return WarpMax(largest);
}

// The lowest index of the largest of a row of n > 0, by one warp, as std::max_element finds it: what is no number is
// never larger, and stays the largest where it comes first.
template <typename T>
__device__ int64_t RowArgmax(const T* row, int64_t n) {
  if (row[0] != row[0]) return 0;
  T largest = LowestOf<T>();
  int64_t at = n;
  for (int64_t j = threadIdx.x % kWarp; j < n; j += kWarp) {
    if (largest < row[j] || (at == n && row[j] == row[j])) {
      largest = row[j];
      at = j;
    }
  }
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, largest, distance);
    const int64_t place = __shfl_xor_sync(kAllLanes, at, distance);
    if (place < n && (at == n || largest < other || (largest == other && place < at))) {
      largest = other;
      at = place;
    }
  }
  return at;
}

// out[w] += the sum over blocks b of partials[b * width + w].
template <int Threads>
__global__ void AddPartialsKernel(const double* partials, int64_t blocks, int width, double* out) {
  __shared__ double shared[Threads];
  double sum = 0;
  for (int64_t b = threadIdx.x; b < blocks; b += Threads) sum += partials[b * width + blockIdx.x];
  sum = BlockSum<Threads>(sum, shared);
  if (threadIdx.x == 0) out[blockIdx.x] += sum;
}

// partials: [blocks, width].
inline void AddPartials(Context& context, const double* partials, int64_t blocks, int width, double* out) {
  AddPartialsKernel<kThreads><<<width, kThreads, 0, context.stream>>>(partials, blocks, width, out);
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
}

// Where a block leaves its sum: in the total where it is alone, else for AddPartials.
struct SumTarget {
  double* total;
  double* partials;

  __device__ void Leave(int64_t block, int width, int index, double value) const {
    if (partials == nullptr) {
      total[index] += value;
    } else {
      partials[block * width + index] = value;
    }
  }
};

// launch(SumTarget) launches `blocks` blocks, each of which leaves `width` sums; they are added to `total`.
template <typename Launch>
void SumOverBlocks(Context& context, int64_t blocks, int width, double* total, Launch launch) {
  double* partials = nullptr;
  if (blocks > 1) {
    partials = context.Scratch<double>(Slot::kPartials, static_cast<size_t>(blocks * width));
    if (partials == nullptr) return;
  }
  launch(SumTarget{total, partials});
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
  if (partials != nullptr) AddPartials(context, partials, blocks, width, total);
}

}  // namespace lockstep::cuda
