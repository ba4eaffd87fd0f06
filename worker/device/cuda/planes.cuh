// SPDX-License-Identifier: Apache-2.0
// What is done to each channel of [rows, channels, places], and sums over its rows and places, one pair for each
// channel, in an order that the shape alone decides.
#pragma once

#include <initializer_list>

#include "worker/device/cuda/pack.cuh"
#include "worker/device/cuda/reduce.cuh"
#include "worker/device/tensor.h"

namespace lockstep::cuda {

struct PlaneShape {
  int64_t rows, channels, places;
};

// Channels last, each place is a row of its own.
inline PlaneShape PlanesOf(const Tensor& x) {
  const int64_t places = x.elements() / (x.shape[0] * x.shape[1]);
  if (x.layout == Layout::kImages) return {x.shape[0] * places, x.shape[1], 1};
  return {x.shape[0], x.shape[1], places};
}

// The same for each of a run of numbers.
template <typename Value>
struct Same {
  Value value;
  __device__ const Value& operator[](int) const { return value; }
};

template <typename F>
struct PlanePack {
  F f;
  PlaneShape s;
  template <int Width>
  __device__ void Run(int64_t i) const {
    using Value = decltype(f.Of(0));
    f.template Run<Width>(i, Same<Value>{f.Of(i / s.places % s.channels)});
  }
};

// One place. A thread keeps its Width channels, and strides over the rows.
template <int Width, typename F>
__global__ void __launch_bounds__(kThreads) ColumnPacksKernel(PlaneShape s, F f) {
  const int64_t packs = s.channels / Width, threads = static_cast<int64_t>(gridDim.x) * kThreads;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, step = threads / packs;
  if (thread >= step * packs) return;
  const int64_t channel = thread % packs * Width;
  decltype(f.Of(0)) values[Width];
  for (int k = 0; k < Width; ++k) values[k] = f.Of(channel + k);
  for (int64_t row = thread / packs; row < s.rows; row += step) {
    f.template Run<Width>(row * s.channels + channel, values);
  }
}

template <int Width, typename F>
void ForColumns(Context& context, const PlaneShape& s, const F& f) {
  const int64_t packs = s.channels / Width;
  // At least one row at a time.
  const int blocks = std::max(BlocksFor(context, s.rows * packs), static_cast<int>((packs + kThreads - 1) / kThreads));
  ColumnPacksKernel<Width><<<blocks, kThreads, 0, context.stream>>>(s, f);
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
}

// f.Run<Width>(i, values) for each run of Width numbers, which begin at i, where values[k] = f.Of(channel of the number
// i + k). `arrays`: as of ForPacks.
template <typename T, typename F>
void ForPlanes(Context& context, const PlaneShape& s, std::initializer_list<const void*> arrays, const F& f) {
  if (s.places > 1) return ForPacks<T>(context, s.rows * s.channels * s.places, s.places, arrays, PlanePack<F>{f, s});
  if (CanPack(kPackWidth<T>, sizeof(T), s.channels, arrays)) return ForColumns<kPackWidth<T>>(context, s, f);
  ForColumns<1>(context, s, f);
}

// A channel's numbers of one block, where places lie next to each other, and where there is one place, so that
// channels do: then a block does 32 channels.
inline constexpr int64_t kPlaneChunk = 8192;
inline constexpr int64_t kColumnChunk = 256;
// Of many rows, larger chunks, so that their sums are soon added.
inline constexpr int64_t kMostColumnChunks = 1024;
// Of a grid's second axis.
inline constexpr int64_t kMaxChunks = 65535;
inline constexpr int kColumnThreads = 8;

struct PairSum {
  double first = 0, second = 0;
};

// partials: [chunks, 2, channels]; null: the only chunk, so it is finished here.
template <typename Finish>
__device__ void LeavePair(int64_t channels, int64_t chunk, int64_t channel, PairSum sum, double* partials,
                          const Finish& finish) {
  if (partials == nullptr) {
    finish(channel, sum);
  } else {
    partials[(2 * chunk) * channels + channel] = sum.first;
    partials[(2 * chunk + 1) * channels + channel] = sum.second;
  }
}

// Block: (channel, chunk). add.Run<Width>(sums, row, channel, index) adds a number to each of Width pairs, those of
// neighbouring channels.
template <typename Add, typename Finish>
__global__ void __launch_bounds__(kThreads)
    PlaneSumsKernel(PlaneShape s, int64_t chunk, Add add, Finish finish, double* partials) {
  __shared__ double shared[kThreads];
  const int64_t channel = blockIdx.x, count = s.rows * s.places;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * chunk;
  const int64_t end = begin + chunk < count ? begin + chunk : count;
  // The thread's numbers are kThreads apart; row and place are stepped, since a division would take longer.
  const int64_t row_step = kThreads / s.places, place_step = kThreads % s.places;
  int64_t row = (begin + threadIdx.x) / s.places, place = (begin + threadIdx.x) % s.places;
  PairSum sum;
  for (int64_t k = begin + threadIdx.x; k < end; k += kThreads) {
    add.template Run<1>(&sum, row, channel, (row * s.channels + channel) * s.places + place);
    row += row_step;
    place += place_step;
    if (place >= s.places) {
      place -= s.places;
      ++row;
    }
  }
  sum.first = BlockSum<kThreads>(sum.first, shared);
  __syncthreads();
  sum.second = BlockSum<kThreads>(sum.second, shared);
  if (threadIdx.x == 0) LeavePair(s.channels, blockIdx.y, channel, sum, partials, finish);
}

// One place: block (32 Width channels, chunk of rows), threads [8, 32]. A thread has Width channels.
template <int Width, typename Add, typename Finish>
__global__ void __launch_bounds__(kWarp* kColumnThreads)
    ColumnSumsKernel(PlaneShape s, int64_t chunk, Add add, Finish finish, double* partials) {
  __shared__ double shared[2][kColumnThreads][kWarp][Width];
  const int64_t channel = (static_cast<int64_t>(blockIdx.x) * kWarp + threadIdx.x) * Width;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * chunk;
  const int64_t end = begin + chunk < s.rows ? begin + chunk : s.rows;
  PairSum sums[Width];
  if (channel < s.channels) {
    for (int64_t row = begin + threadIdx.y; row < end; row += kColumnThreads) {
      add.template Run<Width>(sums, row, channel, row * s.channels + channel);
    }
  }
  for (int k = 0; k < Width; ++k) {
    shared[0][threadIdx.y][threadIdx.x][k] = sums[k].first;
    shared[1][threadIdx.y][threadIdx.x][k] = sums[k].second;
  }
  __syncthreads();
  if (threadIdx.y != 0 || channel >= s.channels) return;
  for (int k = 0; k < Width; ++k) {
    for (int i = 1; i < kColumnThreads; ++i) {
      sums[k].first += shared[0][i][threadIdx.x][k];
      sums[k].second += shared[1][i][threadIdx.x][k];
    }
    LeavePair(s.channels, blockIdx.y, channel + k, sums[k], partials, finish);
  }
}

// Block: a channel.
template <typename Finish>
__global__ void __launch_bounds__(kThreads)
    FinishPlaneSumsKernel(int64_t channels, int64_t chunks, const double* partials, Finish finish) {
  __shared__ double shared[kThreads];
  const int64_t channel = blockIdx.x;
  PairSum sum;
  for (int64_t chunk = threadIdx.x; chunk < chunks; chunk += kThreads) {
    sum.first += partials[(2 * chunk) * channels + channel];
    sum.second += partials[(2 * chunk + 1) * channels + channel];
  }
  sum.first = BlockSum<kThreads>(sum.first, shared);
  __syncthreads();
  sum.second = BlockSum<kThreads>(sum.second, shared);
  if (threadIdx.x == 0) finish(channel, sum);
}

template <int Width, typename Add, typename Finish>
void SumColumns(Context& context, const PlaneShape& s, int64_t chunks, int64_t chunk, const Add& add,
                const Finish& finish, double* partials) {
  constexpr int kChannels = kWarp * Width;
  const dim3 grid(static_cast<unsigned>((s.channels + kChannels - 1) / kChannels), static_cast<unsigned>(chunks));
  ColumnSumsKernel<Width><<<grid, dim3(kWarp, kColumnThreads), 0, context.stream>>>(s, chunk, add, finish, partials);
}

// Calls finish(channel, PairSum) on the device, once for each channel. T: what `arrays`, which `add` reads, hold.
template <typename T, typename Add, typename Finish>
void SumPlanes(Context& context, const PlaneShape& s, std::initializer_list<const void*> arrays, const Add& add,
               const Finish& finish) {
  // A warp reads 128 bytes at a time.
  constexpr int kWidth = 4 / static_cast<int>(std::min(sizeof(T), sizeof(float)));
  const bool columns = s.places == 1;
  const int64_t count = s.rows * s.places;
  const int64_t most = columns ? kMostColumnChunks : kMaxChunks;
  const int64_t chunk = std::max(columns ? kColumnChunk : kPlaneChunk, (count + most - 1) / most);
  const int64_t chunks = std::max<int64_t>((count + chunk - 1) / chunk, 1);
  double* partials = nullptr;
  if (chunks > 1) {
    partials = context.Scratch<double>(Slot::kPartials, static_cast<size_t>(2 * chunks * s.channels));
    if (partials == nullptr) return;
  }
  if (columns) {
    if (CanPack(kWidth, sizeof(T), s.channels, arrays)) {
      SumColumns<kWidth>(context, s, chunks, chunk, add, finish, partials);
    } else {
      SumColumns<1>(context, s, chunks, chunk, add, finish, partials);
    }
  } else {
    const dim3 grid(static_cast<unsigned>(s.channels), static_cast<unsigned>(chunks));
    PlaneSumsKernel<<<grid, kThreads, 0, context.stream>>>(s, chunk, add, finish, partials);
  }
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
  if (partials == nullptr) return;
  FinishPlaneSumsKernel<<<static_cast<unsigned>(s.channels), kThreads, 0, context.stream>>>(s.channels, chunks,
                                                                                            partials, finish);
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
}

}  // namespace lockstep::cuda
