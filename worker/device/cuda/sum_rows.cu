// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "worker/device/cuda/launch.cuh"
#include "worker/device/cuda/sum_rows.h"
#include "worker/device/cuda/visit.h"

namespace lockstep::cuda {

namespace {

constexpr int kColumns = 32;
constexpr int kLanes = 8;
// Rows of a chunk; the order of the sum depends on it.
constexpr int64_t kChunk = 256;

// out[c, j] = the sum of rows [c kChunk, (c + 1) kChunk) of column j.
template <typename T>
__global__ void SumChunksKernel(const T* __restrict__ in, int64_t rows, int64_t n, T* __restrict__ out) {
  __shared__ T sums[kLanes][kColumns];
  const int64_t j = static_cast<int64_t>(blockIdx.x) * kColumns + threadIdx.x;
  const int64_t first = static_cast<int64_t>(blockIdx.y) * kChunk;
  const int64_t end = first + kChunk < rows ? first + kChunk : rows;
  T sum = T(0);
  if (j < n) {
    for (int64_t i = first + threadIdx.y; i < end; i += kLanes) sum += in[i * n + j];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  for (int half = kLanes / 2; half > 0; half /= 2) {
    if (static_cast<int>(threadIdx.y) < half) {
      sums[threadIdx.y][threadIdx.x] += sums[threadIdx.y + half][threadIdx.x];
    }
    __syncthreads();
  }
  if (threadIdx.y == 0 && j < n) out[static_cast<int64_t>(blockIdx.y) * n + j] = sums[0][threadIdx.x];
}

// A grid's second axis is short; so many rows are summed at once.
constexpr int64_t kMaxRows = kChunk * 65535;

template <typename T>
void SumRowsAs(Context& context, const T* in, int64_t rows, int64_t n, T* out) {
  if (rows > kMaxRows) {
    return context.failure.Note("SumRows", __FILE__, __LINE__, "a sum of more than 16 million rows");
  }
  const auto chunks_of = [](int64_t r) { return (r + kChunk - 1) / kChunk; };
  const auto columns = static_cast<unsigned>((n + kColumns - 1) / kColumns);
  const int64_t first = chunks_of(rows), second = chunks_of(first);
  T* partials = nullptr;
  if (first > 1) {
    partials = context.Scratch<T>(Slot::kPartials, static_cast<size_t>((first + second) * n));
    if (partials == nullptr) return;
  }
  // Chunks' sums are rows again, and alternate between two places.
  T* places[2] = {partials, partials + first * n};
  while (true) {
    const int64_t chunks = std::max<int64_t>(chunks_of(rows), 1);
    T* const to = chunks == 1 ? out : places[0];
    SumChunksKernel<<<dim3(columns, static_cast<unsigned>(chunks)), dim3(kColumns, kLanes), 0, context.stream>>>(
        in, rows, n, to);
    if (!LOCKSTEP_CUDA_CHECK_LAUNCH(context) || chunks == 1) return;
    in = to;
    rows = chunks;
    std::swap(places[0], places[1]);
  }
}

}  // namespace

void SumRows(Context& context, Tensor dy, Tensor out) {
  const int64_t n = out.elements();
  if (n == 0) return;
  VisitReal(out.type, [&]<typename T>(T) { SumRowsAs(context, dy.as<T>(), dy.elements() / n, n, out.as<T>()); });
}

}  // namespace lockstep::cuda
