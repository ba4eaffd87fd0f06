// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/judged.cuh"
#include "worker/device/cuda/metrics.h"
#include "worker/device/cuda/reduce.cuh"
#include "worker/device/cuda/visit.h"
#include "worker/device/math/activations.h"

namespace lockstep::cuda {

namespace {

constexpr int64_t kElementsOfBlock = 4096;

// f(row) in every lane of a warp, for each row.
template <typename F>
__global__ void __launch_bounds__(kThreads) ForRowsKernel(F f, int64_t rows) {
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kThreads / kWarp);
  for (int64_t row = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp; row < rows; row += warps) {
    f(row);
  }
}

template <typename F>
void ForRows(Context& context, const F& f, int64_t rows) {
  ForRowsKernel<<<BlocksFor(context, rows * kWarp), kThreads, 0, context.stream>>>(f, rows);
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
}

// One addition for each block: all rows have the same target.
template <typename T>
__global__ void __launch_bounds__(kThreads) TopKKernel(TopK<T> top) {
  __shared__ int found[kThreads / kWarp];
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kThreads / kWarp);
  int count = 0;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + warp; row < top.judged.rows;
       row += warps) {
    count += top.Found(row) ? 1 : 0;
  }
  if (threadIdx.x % kWarp == 0) found[warp] = count;
  __syncthreads();
  if (threadIdx.x != 0) return;
  int total = 0;
  for (const int each : found) total += each;
  if (total > 0) atomicAdd(top.sum, static_cast<double>(total));
}

template <typename T>
struct Classes {
  Judged<T> judged;
  double* sums;

  __device__ void operator()(int64_t row) const {
    const int64_t label = judged.Label(row);
    if (label < 0 || label >= judged.n) return;
    const int64_t taken = RowArgmax(judged.y + row * judged.n, judged.n);
    if (threadIdx.x % kWarp != 0) return;
    if (taken == label) atomicAdd(sums + label * 3, 1.0);
    atomicAdd(sums + taken * 3 + 1, 1.0);
    atomicAdd(sums + label * 3 + 2, 1.0);
  }
};

template <typename T>
struct Confusion {
  Judged<T> judged;
  double* sums;

  __device__ void operator()(int64_t row) const {
    const int64_t label = judged.Label(row);
    if (label < 0 || label >= judged.n) return;
    const int64_t taken = RowArgmax(judged.y + row * judged.n, judged.n);
    if (threadIdx.x % kWarp == 0) atomicAdd(sums + label * judged.n + taken, 1.0);
  }
};

// Sides by output: {true positives, false positives, false negatives, true negatives}.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    SidesKernel(Judged<T> judged, int64_t elements, double threshold, double* sums) {
  __shared__ int counts[4];
  if (threadIdx.x < 4) counts[threadIdx.x] = 0;
  __syncthreads();
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < elements; i += step) {
    if (judged.labels != nullptr && judged.labels[i] != 0 && judged.labels[i] != 1) continue;
    const bool yes = judged.labels != nullptr ? judged.labels[i] == 1 : judged.values[i] > T(0.5);
    const bool taken = static_cast<double>(judged.y[i]) > threshold;
    atomicAdd(counts + (yes ? (taken ? 0 : 2) : (taken ? 1 : 3)), 1);
  }
  __syncthreads();
  if (threadIdx.x < 4 && counts[threadIdx.x] > 0) {
    atomicAdd(sums + threadIdx.x, static_cast<double>(counts[threadIdx.x]));
  }
}

// Exact in double for a float's probability. What is no number is in the first bucket.
__device__ int64_t BucketOf(double probability, int64_t buckets) {
  const double place = ::ceil(probability * static_cast<double>(buckets)) - 1.0;
  if (!(place > 0)) return 0;
  const double last = static_cast<double>(buckets - 1);
  return static_cast<int64_t>(place < last ? place : last);
}

template <typename T>
struct Histogram {
  Judged<T> judged;
  OutputKind kind;
  int64_t buckets;
  double* sums;

  __device__ void operator()(int64_t row) const {
    const int64_t n = judged.n, label = judged.labels != nullptr ? judged.labels[row] : 0;
    if (judged.labels != nullptr && (label < 0 || label >= (n < 2 ? 2 : n))) return;
    const T* y = judged.y + row * n;
    T max = T(0), total = T(0);
    if (kind == OutputKind::kSoftmax) {
      max = RowMax(y, n);
      for (int64_t j = threadIdx.x % kWarp; j < n; j += kWarp) total += math::Exp(y[j] - max);
      total = WarpSum(total);
    }
    for (int64_t j = threadIdx.x % kWarp; j < n; j += kWarp) {
      T probability = y[j];
      if (kind == OutputKind::kSoftmax) probability = math::Exp(y[j] - max) / total;
      if (kind == OutputKind::kSigmoid) probability = SigmoidMath{}.Forward(y[j]);
      // One output stands for class 1.
      const bool yes = judged.labels != nullptr ? label == (n == 1 ? 1 : j) : judged.values[row * n + j] > T(0.5);
      atomicAdd(sums + (yes ? buckets : 0) + BucketOf(static_cast<double>(probability), buckets), 1.0);
    }
  }
};

template <typename T>
__global__ void __launch_bounds__(kThreads)
    ErrorsKernel(const T* predictions, const T* targets, int64_t elements, SumTarget target) {
  __shared__ double shared[kThreads];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kElementsOfBlock;
  const int64_t end = first + kElementsOfBlock < elements ? first + kElementsOfBlock : elements;
  double sums[4] = {0, 0, 0, 0};
  for (int64_t i = first + threadIdx.x; i < end; i += kThreads) {
    const double t = static_cast<double>(targets[i]), difference = static_cast<double>(predictions[i]) - t;
    sums[0] += difference * difference;
    sums[1] += ::fabs(difference);
    sums[2] += t;
    sums[3] += t * t;
  }
  for (int k = 0; k < 4; ++k) {
    const double sum = BlockSum<kThreads>(sums[k], shared);
    if (threadIdx.x == 0) target.Leave(blockIdx.x, 4, k, sum);
    __syncthreads();
  }
}

}  // namespace

void CountTopK(Context& context, Tensor outputs, Tensor targets, int k, Tensor sum) {
  if (outputs.elements() == 0) return;
  VisitReal(outputs.type, [&]<typename T>(T) {
    const TopK<T> top{Judged<T>(outputs, targets), k, sum.as<double>()};
    TopKKernel<<<BlocksFor(context, top.judged.rows * kWarp), kThreads, 0, context.stream>>>(top);
    LOCKSTEP_CUDA_CHECK_LAUNCH(context);
  });
}

void CountClasses(Context& context, Tensor outputs, Tensor targets, Tensor sums) {
  if (outputs.elements() == 0) return;
  VisitReal(outputs.type, [&]<typename T>(T) {
    ForRows(context, Classes<T>{Judged<T>(outputs, targets), sums.as<double>()}, outputs.shape[0]);
  });
}

void CountConfusion(Context& context, Tensor outputs, Tensor targets, Tensor sums) {
  if (outputs.elements() == 0) return;
  VisitReal(outputs.type, [&]<typename T>(T) {
    ForRows(context, Confusion<T>{Judged<T>(outputs, targets), sums.as<double>()}, outputs.shape[0]);
  });
}

void CountSides(Context& context, Tensor outputs, Tensor targets, double threshold, Tensor sums) {
  const int64_t elements = outputs.elements();
  if (elements == 0) return;
  VisitReal(outputs.type, [&]<typename T>(T) {
    SidesKernel<<<BlocksFor(context, elements), kThreads, 0, context.stream>>>(Judged<T>(outputs, targets), elements,
                                                                               threshold, sums.as<double>());
    LOCKSTEP_CUDA_CHECK_LAUNCH(context);
  });
}

void ScoreHistogram(Context& context, Tensor outputs, OutputKind kind, Tensor targets, Tensor sums) {
  if (outputs.elements() == 0) return;
  VisitReal(outputs.type, [&]<typename T>(T) {
    const Histogram<T> histogram{Judged<T>(outputs, targets), kind, sums.elements() / 2, sums.as<double>()};
    ForRows(context, histogram, outputs.shape[0]);
  });
}

void SumErrors(Context& context, Tensor predictions, Tensor targets, Tensor sums) {
  const int64_t elements = predictions.elements();
  if (elements == 0) return;
  const int64_t blocks = (elements + kElementsOfBlock - 1) / kElementsOfBlock;
  VisitReal(predictions.type, [&]<typename T>(T) {
    SumOverBlocks(context, blocks, 4, sums.as<double>(), [&](SumTarget target) {
      ErrorsKernel<<<static_cast<unsigned>(blocks), kThreads, 0, context.stream>>>(predictions.as<T>(), targets.as<T>(),
                                                                                   elements, target);
    });
  });
}

}  // namespace lockstep::cuda
