// SPDX-License-Identifier: Apache-2.0
// Sixteen bytes at a time, where numbers lie so that it is possible.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "worker/device/cuda/launch.cuh"
#include "worker/device/cuda/stored.cuh"

namespace lockstep::cuda {

template <typename T>
inline constexpr int kPackWidth = 16 / static_cast<int>(sizeof(T));

// Numbers next to each other, as they are computed with.
template <typename T, int Width>
struct Pack {
  Real<T> at[Width];

  __device__ static Pack Load(const T* from) {
    const Run run = *reinterpret_cast<const Run*>(from);
    Pack pack;
    for (int k = 0; k < Width; ++k) pack.at[k] = static_cast<Real<T>>(run.at[k]);
    return pack;
  }
  __device__ void Store(T* to) const {
    Run run;
    for (int k = 0; k < Width; ++k) run.at[k] = static_cast<T>(at[k]);
    *reinterpret_cast<Run*>(to) = run;
  }

 private:
  struct alignas(sizeof(T) * Width) Run {
    T at[Width];
  };
};

template <typename F, int Width>
struct RunPack {
  F f;
  __device__ void operator()(int64_t i) const { f.template Run<Width>(i * Width); }
};

// True: packs of `width` numbers of so many bytes fill runs of `run`, and all of `arrays` lie on a pack's boundary.
inline bool CanPack(int width, size_t size, int64_t run, std::initializer_list<const void*> arrays) {
  bool can = run % width == 0;
  for (const void* array : arrays) can = can && reinterpret_cast<uintptr_t>(array) % (width * size) == 0;
  return can;
}

// f.Run<Width>(i) for i = 0, Width, 2 Width, ... below n. Width: 16 bytes where runs of `run` numbers and all of
// `arrays` allow it, so that no pack lies in two runs, else 1.
template <typename T, typename F>
void ForPacks(Context& context, int64_t n, int64_t run, std::initializer_list<const void*> arrays, const F& f) {
  constexpr int kWidth = kPackWidth<T>;
  if (CanPack(kWidth, sizeof(T), run, arrays)) {
    ForEach(context, n / kWidth, RunPack<F, kWidth>{f});
  } else {
    ForEach(context, n, RunPack<F, 1>{f});
  }
}

}  // namespace lockstep::cuda
