// SPDX-License-Identifier: Apache-2.0
// Softmax and cross-entropy of one row, by one warp.
#pragma once

#include <cstdint>

#include "worker/device/cuda/reduce.cuh"
#include "worker/device/device.h"
#include "worker/device/math/activations.h"

namespace lockstep::cuda {

// A label that is no class makes the loss NaN, which the training loop reports; it is never an index.
__device__ inline double UnknownLabel() { return __longlong_as_double(0x7ff8000000000000ll); }

// What both cross-entropies are given; as cpu::CrossEntropyRow.
template <typename T>
struct CrossEntropyProblem {
  CrossEntropyProblem(const CrossEntropyArgs& args, const Tensor& outputs, const Tensor& targets, double s,
                      const Tensor& gradient)
      : rows(outputs.shape[0]),
        n(outputs.elements() / outputs.shape[0]),
        x(outputs.as<T>()),
        labels(targets.type == DType::kI32 ? targets.as<int32_t>() : nullptr),
        distributions(targets.type == DType::kI32 ? nullptr : targets.as<T>()),
        weights(args.class_weights.as<double>()),
        on(1.0 - args.label_smoothing),
        off(args.label_smoothing / static_cast<double>(n)),
        scale(s),
        d(gradient.as<T>()) {}

  int64_t rows, n;
  const T* x;
  const int32_t* labels;
  const T* distributions;
  const double* weights;
  double on, off, scale;
  T* d;

  __device__ int64_t Label(int64_t row) const {
    return labels != nullptr ? labels[row] : RowArgmax(distributions + row * n, n);
  }
  __device__ double Weight(int64_t label) const {
    if (label < 0 || label >= n) return UnknownLabel();
    return weights == nullptr ? 1.0 : weights[label];
  }
  __device__ double Target(int64_t row, int64_t label, int64_t j) const {
    const double t =
        distributions != nullptr ? static_cast<double>(distributions[row * n + j]) : (j == label ? 1.0 : 0.0);
    return t * on + off;
  }
};

// The row's loss, in all lanes of the warp; writes its gradient.
template <typename T>
struct SoftmaxRow {
  CrossEntropyProblem<T> p;

  __device__ double operator()(int64_t row) const {
    const int lane = threadIdx.x % kWarp;
    const T* x = p.x + row * p.n;
    const int64_t label = p.Label(row);
    const double weight = p.Weight(label);
    const bool known = weight == weight;
    const double factor = known ? p.scale * weight : p.scale;
    const T max = RowMax(x, p.n);
    T total = T(0);
    for (int64_t j = lane; j < p.n; j += kWarp) total += math::Exp(x[j] - max);
    total = WarpSum(total);
    const T log_sum = log(total);
    if (p.labels != nullptr && p.off == 0.0) {
      const T f = static_cast<T>(factor);
      for (int64_t j = lane; p.d != nullptr && j < p.n; j += kWarp) {
        const T y = math::Exp(x[j] - max) / total;
        p.d[row * p.n + j] = (known && j == label ? y - T(1) : y) * f;
      }
      return known ? weight * (static_cast<double>(log_sum) - static_cast<double>(x[label] - max)) : UnknownLabel();
    }
    double loss = 0, targets = 0;
    for (int64_t j = lane; j < p.n; j += kWarp) {
      const double q = p.Target(row, label, j);
      targets += q;
      // 0 log 0 = 0.
      if (q != 0) loss += q * (static_cast<double>(log_sum) - static_cast<double>(x[j] - max));
    }
    loss = WarpSum(loss);
    targets = WarpSum(targets);
    for (int64_t j = lane; p.d != nullptr && j < p.n; j += kWarp) {
      const T y = math::Exp(x[j] - max) / total;
      p.d[row * p.n + j] = static_cast<T>((static_cast<double>(y) * targets - p.Target(row, label, j)) * factor);
    }
    return weight * loss;
  }
};

}  // namespace lockstep::cuda
