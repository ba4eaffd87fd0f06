// SPDX-License-Identifier: Apache-2.0
// Sixteen bytes at a time, where numbers lie so that it is possible.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "worker/device/cuda/launch.cuh"

namespace lockstep::cuda {

template <typename T>
inline constexpr int kPackWidth = 16 / static_cast<int>(sizeof(T));

template <typename T, int Width>
struct alignas(sizeof(T) * Width) Pack {
  T at[Width];

  __device__ static Pack Load(const T* from) { return *reinterpret_cast<const Pack*>(from); }
  __device__ void Store(T* to) const { *reinterpret_cast<Pack*>(to) = *this; }
};

template <typename F, int Width>
struct RunPack {
  F f;
  __device__ void operator()(int64_t i) const { f.template Run<Width>(i * Width); }
};

// True: runs of `run` numbers and all of `arrays` lie on sixteen bytes.
template <typename T>
bool CanPack(int64_t run, std::initializer_list<const void*> arrays) {
  bool can = run % kPackWidth<T> == 0;
  for (const void* array : arrays) can = can && reinterpret_cast<uintptr_t>(array) % 16 == 0;
  return can;
}

// f.Run<Width>(i) for i = 0, Width, 2 Width, ... below n. Width: 16 bytes where runs of `run` numbers and all of
// `arrays` allow it, so that no pack lies in two runs, else 1.
template <typename T, typename F>
void ForPacks(Context& context, int64_t n, int64_t run, std::initializer_list<const void*> arrays, const F& f) {
  constexpr int kWidth = kPackWidth<T>;
  if (CanPack<T>(run, arrays)) {
    ForEach(context, n / kWidth, RunPack<F, kWidth>{f});
  } else {
    ForEach(context, n, RunPack<F, 1>{f});
  }
}

}  // namespace lockstep::cuda
