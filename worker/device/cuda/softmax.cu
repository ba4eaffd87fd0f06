// SPDX-License-Identifier: Apache-2.0
// One warp a row: a lane takes every 32nd column, and the lanes' sums are added as a tree.
#include "worker/device/cuda/reduce.cuh"
#include "worker/device/cuda/softmax.h"
#include "worker/device/cuda/visit.h"
#include "worker/device/math/activations.h"

namespace lockstep::cuda {

namespace {

constexpr int kRowsPerBlock = kThreads / kWarp;

__device__ double LogOfSum(double x) { return ::log(x); }
__device__ float LogOfSum(float x) { return ::logf(x); }

// f(row, first column of this lane) for each row, by whole warps.
template <typename F>
__global__ void RowsKernel(int64_t rows, F f) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kRowsPerBlock;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp; i < rows; i += step) {
    f(i, lane);
  }
}

template <typename F>
void ForRows(Context& context, int64_t rows, const F& f) {
  if (rows <= 0) return;
  RowsKernel<<<BlocksFor(context, rows, kRowsPerBlock), kThreads, 0, context.stream>>>(rows, f);
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
}

template <typename T>
struct ForwardOp {
  const T* x;
  T* y;
  int64_t n;
  bool log;
  __device__ void operator()(int64_t row, int lane) const {
    const T* from = x + row * n;
    T* to = y + row * n;
    const T max = RowMax(from, n);
    T sum = T(0);
    for (int64_t j = lane; j < n; j += kWarp) sum += math::Exp(from[j] - max);
    sum = WarpSum(sum);
    const T log_sum = log ? LogOfSum(sum) : T(0);
    for (int64_t j = lane; j < n; j += kWarp) {
      to[j] = log ? from[j] - max - log_sum : math::Exp(from[j] - max) / sum;
    }
  }
};

template <typename T>
struct BackwardOp {
  const T* y;
  const T* dy;
  T* dx;
  int64_t n;
  __device__ void operator()(int64_t row, int lane) const {
    const int64_t at = row * n;
    T dot = T(0);
    for (int64_t j = lane; j < n; j += kWarp) dot += dy[at + j] * y[at + j];
    dot = WarpSum(dot);
    for (int64_t j = lane; j < n; j += kWarp) dx[at + j] = y[at + j] * (dy[at + j] - dot);
  }
};

template <typename T>
struct LogBackwardOp {
  const T* y;
  const T* dy;
  T* dx;
  int64_t n;
  __device__ void operator()(int64_t row, int lane) const {
    const int64_t at = row * n;
    T sum = T(0);
    for (int64_t j = lane; j < n; j += kWarp) sum += dy[at + j];
    sum = WarpSum(sum);
    for (int64_t j = lane; j < n; j += kWarp) dx[at + j] = dy[at + j] - math::Exp(y[at + j]) * sum;
  }
};

struct RowShape {
  int64_t rows, n;
};
RowShape RowsOf(const Tensor& t) {
  const int64_t n = t.shape[t.shape.rank() - 1];
  return {n == 0 ? 0 : t.elements() / n, n};
}

void Forward(Context& context, const Tensor& x, const Tensor& y, bool log) {
  const RowShape shape = RowsOf(x);
  VisitReal(y.type, [&]<typename T>(T) {
    ForRows(context, shape.rows, ForwardOp<T>{x.as<T>(), y.as<T>(), shape.n, log});
  });
}

}  // namespace

void SoftmaxForward(Context& context, Tensor x, Tensor y) { Forward(context, x, y, false); }
void LogSoftmaxForward(Context& context, Tensor x, Tensor y) { Forward(context, x, y, true); }

void SoftmaxBackward(Context& context, Tensor y, Tensor dy, Tensor dx) {
  const RowShape shape = RowsOf(y);
  VisitReal(y.type, [&]<typename T>(T) {
    ForRows(context, shape.rows, BackwardOp<T>{y.as<T>(), dy.as<T>(), dx.as<T>(), shape.n});
  });
}

void LogSoftmaxBackward(Context& context, Tensor y, Tensor dy, Tensor dx) {
  const RowShape shape = RowsOf(y);
  VisitReal(y.type, [&]<typename T>(T) {
    ForRows(context, shape.rows, LogBackwardOp<T>{y.as<T>(), dy.as<T>(), dx.as<T>(), shape.n});
  });
}

}  // namespace lockstep::cuda
