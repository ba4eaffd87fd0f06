// SPDX-License-Identifier: Apache-2.0
// What metrics see of a row, by one warp.
#pragma once

#include <cstdint>

#include "worker/device/cuda/reduce.cuh"
#include "worker/device/tensor.h"

namespace lockstep::cuda {

// Outputs and targets of a batch; a warp does a row.
template <typename T>
struct Judged {
  Judged(const Tensor& outputs, const Tensor& targets)
      : rows(outputs.shape[0]),
        n(outputs.elements() / outputs.shape[0]),
        y(outputs.as<T>()),
        labels(targets.type == DType::kI32 ? targets.as<int32_t>() : nullptr),
        values(targets.type == DType::kI32 ? nullptr : targets.as<T>()) {}

  int64_t rows, n;
  const T* y;
  const int32_t* labels;
  const T* values;

  // May be no class at all.
  __device__ int64_t Label(int64_t row) const {
    return labels != nullptr ? labels[row] : RowArgmax(values + row * n, n);
  }
};

template <typename T>
struct TopK {
  Judged<T> judged;
  int k;
  double* sum;

  __device__ bool Found(int64_t row) const {
    const int64_t label = judged.Label(row), n = judged.n;
    if (label < 0 || label >= n) return false;
    const T* y = judged.y + row * n;
    // A label whose output is no number counts as the last.
    int64_t rank = 0;
    for (int64_t j = threadIdx.x % kWarp; j < n; j += kWarp) {
      rank += y[label] > y[j] || (y[label] == y[j] && label < j) ? 0 : 1;
    }
    return WarpSum(rank) <= k;
  }
};

}  // namespace lockstep::cuda
