// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/activations.h"
#include "worker/device/cuda/norms.h"
#include "worker/device/cuda/pack.cuh"
#include "worker/device/cuda/planes.cuh"
#include "worker/device/cuda/visit.h"
#include "worker/device/math/activations.h"

namespace lockstep::cuda {

namespace {

template <typename T>
struct AddSquares {
  const T* x;
  template <int Width>
  __device__ void Run(PairSum* sums, int64_t, int64_t, int64_t i) const {
    const Pack<T, Width> numbers = Pack<T, Width>::Load(x + i);
    for (int k = 0; k < Width; ++k) {
      const double v = static_cast<double>(numbers.at[k]);
      sums[k].first += v;
      sums[k].second += v * v;
    }
  }
};

struct FinishSums {
  double* sums;
  int64_t channels;
  __device__ void operator()(int64_t c, PairSum sum) const {
    sums[c] += sum.first;
    sums[channels + c] += sum.second;
  }
};

template <typename T>
struct AddProducts {
  const T* x;
  const T* dy;
  template <int Width>
  __device__ void Run(PairSum* sums, int64_t, int64_t, int64_t i) const {
    const Pack<T, Width> from = Pack<T, Width>::Load(x + i), gradient = Pack<T, Width>::Load(dy + i);
    for (int k = 0; k < Width; ++k) {
      const double d = static_cast<double>(gradient.at[k]);
      sums[k].first += d;
      sums[k].second += d * static_cast<double>(from.at[k]);
    }
  }
};

struct FinishNormSums {
  const double* statistics;
  double* sums;
  int64_t channels;
  __device__ void operator()(int64_t c, PairSum sum) const {
    sums[c] += sum.first;
    sums[channels + c] += (sum.second - statistics[c] * sum.first) * statistics[channels + c];
  }
};

struct StatisticsOfSums {
  const double* sums;
  double count, epsilon;
  int64_t channels;
  double* out;
  __device__ void operator()(int64_t c) const {
    const double mean = sums[c] / count;
    // Rounding may leave a constant channel a hair below zero.
    const double difference = sums[channels + c] / count - mean * mean;
    const double variance = 0.0 < difference ? difference : 0.0;
    out[c] = mean;
    out[channels + c] = 1.0 / ::sqrt(variance + epsilon);
    out[2 * channels + c] = variance;
  }
};

template <typename T>
struct StatisticsOfMoving {
  const T* mean;
  const T* variance;
  double epsilon;
  int64_t channels;
  double* out;
  __device__ void operator()(int64_t c) const {
    const double v = static_cast<double>(variance[c]);
    out[c] = static_cast<double>(mean[c]);
    out[channels + c] = 1.0 / ::sqrt(v + epsilon);
    out[2 * channels + c] = v;
  }
};

template <typename T, typename Math>
struct ChannelForward {
  Math math;
  const T* x;
  const double* statistics;
  const Real<T>* gamma;
  const Real<T>* beta;
  T* y;
  int64_t channels;

  struct Line {
    Real<T> scale, shift;
  };
  __device__ Line Of(int64_t c) const {
    const double scale = statistics[channels + c] * (gamma == nullptr ? 1.0 : static_cast<double>(gamma[c]));
    const double shift = (beta == nullptr ? 0.0 : static_cast<double>(beta[c])) - statistics[c] * scale;
    return {static_cast<Real<T>>(scale), static_cast<Real<T>>(shift)};
  }
  template <int Width, typename Lines>
  __device__ void Run(int64_t i, const Lines& lines) const {
    Pack<T, Width> v = Pack<T, Width>::Load(x + i);
    for (int k = 0; k < Width; ++k) v.at[k] = math.Forward(v.at[k] * lines[k].scale + lines[k].shift);
    v.Store(y + i);
  }
};

template <typename T>
struct ChannelBackward {
  const T* x;
  const double* statistics;
  const Real<T>* gamma;
  const double* sums;
  double count;
  const T* dy;
  T* dx;
  int64_t channels;

  struct Plane {
    Real<T> of_dy, of_x, shift;
  };
  __device__ Plane Of(int64_t c) const {
    const double mean = statistics[c], inverse = statistics[channels + c];
    const double scale = inverse * (gamma == nullptr ? 1.0 : static_cast<double>(gamma[c]));
    const double per_dy = count > 0 ? sums[c] / count : 0.0;
    const double per_x = count > 0 ? sums[channels + c] / count * inverse : 0.0;
    return {static_cast<Real<T>>(scale), static_cast<Real<T>>(-scale * per_x),
            static_cast<Real<T>>(scale * (per_x * mean - per_dy))};
  }
  template <int Width, typename Planes>
  __device__ void Run(int64_t i, const Planes& planes) const {
    const Pack<T, Width> from = Pack<T, Width>::Load(x + i);
    Pack<T, Width> d = Pack<T, Width>::Load(dy + i);
    for (int k = 0; k < Width; ++k) {
      d.at[k] = planes[k].of_dy * d.at[k] + planes[k].of_x * from.at[k] + planes[k].shift;
    }
    d.Store(dx + i);
  }
};

// Groups of rows, one for each block.
template <typename T>
struct RowGroups {
  const T* x;
  const T* gamma;
  int64_t groups, size, spatial;
  double epsilon;
  double* statistics;

  // Where the scale and shift of the group begin.
  __device__ int64_t Channel(int64_t group) const { return (group % groups) * size / spatial; }
  __device__ double Scale(int64_t channel) const {
    return gamma == nullptr ? 1.0 : static_cast<double>(gamma[channel]);
  }
};

// The sum in every thread of the block.
__device__ double SharedSum(double value, double* shared) {
  const double sum = BlockSum<kThreads>(value, shared);
  __syncthreads();
  return sum;
}

template <typename T>
__global__ void __launch_bounds__(kThreads) RowForwardKernel(RowGroups<T> g, const T* beta, T* y) {
  __shared__ double shared[kThreads];
  const int64_t group = blockIdx.x, channel = g.Channel(group);
  const T* x = g.x + group * g.size;
  const double n = static_cast<double>(g.size);
  double sum = 0;
  for (int64_t j = threadIdx.x; j < g.size; j += kThreads) sum += static_cast<double>(x[j]);
  const double mean = SharedSum(sum, shared) / n;
  // Second pass: the difference of two large sums would lose the variance of far-off values.
  double squares = 0;
  for (int64_t j = threadIdx.x; j < g.size; j += kThreads) {
    const double d = static_cast<double>(x[j]) - mean;
    squares += d * d;
  }
  const double inverse = 1.0 / ::sqrt(SharedSum(squares, shared) / n + g.epsilon);
  if (threadIdx.x == 0) {
    g.statistics[2 * group] = mean;
    g.statistics[2 * group + 1] = inverse;
  }
  for (int64_t j = threadIdx.x; j < g.size; j += kThreads) {
    const int64_t c = channel + j / g.spatial;
    const double scale = inverse * g.Scale(c);
    const double shift = (beta == nullptr ? 0.0 : static_cast<double>(beta[c])) - mean * scale;
    y[group * g.size + j] = x[j] * static_cast<T>(scale) + static_cast<T>(shift);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) RowBackwardKernel(RowGroups<T> g, const T* dy, T* dx) {
  __shared__ double shared[kThreads];
  const int64_t group = blockIdx.x, channel = g.Channel(group);
  const T* x = g.x + group * g.size;
  const T* d = dy + group * g.size;
  const double mean = g.statistics[2 * group], inverse = g.statistics[2 * group + 1];
  double sum = 0, product = 0;
  for (int64_t j = threadIdx.x; j < g.size; j += kThreads) {
    const double scaled = static_cast<double>(d[j]) * g.Scale(channel + j / g.spatial);
    sum += scaled;
    product += scaled * ((static_cast<double>(x[j]) - mean) * inverse);
  }
  const double n = static_cast<double>(g.size);
  sum = SharedSum(sum, shared) / n;
  product = SharedSum(product, shared) / n;
  for (int64_t j = threadIdx.x; j < g.size; j += kThreads) {
    const double xhat = (static_cast<double>(x[j]) - mean) * inverse;
    const double scaled = static_cast<double>(d[j]) * g.Scale(channel + j / g.spatial);
    dx[group * g.size + j] = static_cast<T>(inverse * (scaled - sum - xhat * product));
  }
}

// Of a scale and a shift, over all rows: {sum of dy xhat, sum of dy}. A channel lies in one group.
template <typename T>
struct AddRowGradients {
  RowGroups<T> g;
  const T* dy;
  template <int Width>
  __device__ void Run(PairSum* sums, int64_t row, int64_t channel, int64_t i) const {
    for (int k = 0; k < Width; ++k) {
      const double* statistics = g.statistics + 2 * (row * g.groups + (channel + k) * g.spatial / g.size);
      const double d = static_cast<double>(dy[i + k]);
      sums[k].first += d * ((static_cast<double>(g.x[i + k]) - statistics[0]) * statistics[1]);
      sums[k].second += d;
    }
  }
};

template <typename T>
struct FinishRowGradients {
  T* dgamma;
  T* dbeta;
  __device__ void operator()(int64_t c, PairSum sum) const {
    if (dgamma != nullptr) dgamma[c] = static_cast<T>(sum.first);
    if (dbeta != nullptr) dbeta[c] = static_cast<T>(sum.second);
  }
};

template <typename T>
RowGroups<T> RowGroupsOf(const RowNormArgs& args, const Tensor& x, const Tensor& gamma, const Tensor& statistics) {
  return {.x = x.as<T>(),
          .gamma = gamma.as<T>(),
          .groups = args.groups,
          .size = x.elements() / x.shape[0] / args.groups,
          .spatial = args.spatial,
          .epsilon = args.epsilon,
          .statistics = statistics.as<double>()};
}

}  // namespace

void ChannelSums(Context& context, Tensor x, Tensor sums) {
  if (x.elements() == 0) return;
  VisitStored(x.type, [&]<typename T>(T) {
    SumPlanes<T>(context, PlanesOf(x), {x.data}, AddSquares<T>{x.as<T>()}, FinishSums{sums.as<double>(), x.shape[1]});
  });
}

void ChannelStatistics(Context& context, Tensor sums, double count, double epsilon, Tensor statistics) {
  const int64_t channels = sums.shape[1];
  ForEach(context, channels, StatisticsOfSums{sums.as<double>(), count, epsilon, channels, statistics.as<double>()});
}

void MovingStatistics(Context& context, Tensor mean, Tensor variance, double epsilon, Tensor statistics) {
  const int64_t channels = mean.elements();
  VisitReal(mean.type, [&]<typename T>(T) {
    ForEach(context, channels,
            StatisticsOfMoving<T>{mean.as<T>(), variance.as<T>(), epsilon, channels, statistics.as<double>()});
  });
}

void ChannelNormForward(Context& context, Tensor x, Tensor statistics, Tensor gamma, Tensor beta,
                        const ActivationArgs& activation, Tensor y) {
  if (x.elements() == 0) return;
  // ReLU costs nothing here; another function is a pass of its own.
  const bool relu = activation.kind == Activation::kRelu;
  VisitStored(x.type, [&]<typename T>(T) {
    const auto run = [&](auto math) {
      ForPlanes<T>(context, PlanesOf(x), {x.data, y.data},
                   ChannelForward<T, decltype(math)>{math, x.as<T>(), statistics.as<double>(), gamma.as<Real<T>>(),
                                                     beta.as<Real<T>>(), y.as<T>(), x.shape[1]});
    };
    relu ? run(ReluMath{}) : run(LinearMath{});
  });
  if (!relu) ActivationForward(context, activation, y, y);
}

void ChannelNormSums(Context& context, Tensor x, Tensor statistics, Tensor dy, Tensor sums) {
  if (x.elements() == 0) return;
  VisitStored(x.type, [&]<typename T>(T) {
    SumPlanes<T>(context, PlanesOf(x), {x.data, dy.data}, AddProducts<T>{x.as<T>(), dy.as<T>()},
                 FinishNormSums{statistics.as<double>(), sums.as<double>(), x.shape[1]});
  });
}

void ChannelNormBackward(Context& context, Tensor x, Tensor statistics, Tensor gamma, Tensor sums, double count,
                         Tensor dy, Tensor dx) {
  if (x.elements() == 0) return;
  VisitStored(x.type, [&]<typename T>(T) {
    ForPlanes<T>(context, PlanesOf(x), {x.data, dy.data, dx.data},
                 ChannelBackward<T>{x.as<T>(), statistics.as<double>(), gamma.as<Real<T>>(), sums.as<double>(), count,
                                    dy.as<T>(), dx.as<T>(), x.shape[1]});
  });
}

void RowNormForward(Context& context, const RowNormArgs& args, Tensor x, Tensor gamma, Tensor beta, Tensor statistics,
                    Tensor y) {
  if (x.elements() == 0) return;
  VisitReal(x.type, [&]<typename T>(T) {
    const unsigned blocks = static_cast<unsigned>(x.shape[0] * args.groups);
    RowForwardKernel<<<blocks, kThreads, 0, context.stream>>>(RowGroupsOf<T>(args, x, gamma, statistics), beta.as<T>(),
                                                              y.as<T>());
    LOCKSTEP_CUDA_CHECK_LAUNCH(context);
  });
}

void RowNormBackward(Context& context, const RowNormArgs& args, Tensor x, Tensor gamma, Tensor statistics, Tensor dy,
                     Tensor dx, Tensor dgamma, Tensor dbeta) {
  const int64_t rows = x.shape[0], n = rows == 0 ? 0 : x.elements() / rows;
  VisitReal(x.type, [&]<typename T>(T) {
    if (n == 0) return;
    const RowGroups<T> groups = RowGroupsOf<T>(args, x, gamma, statistics);
    if (dgamma.data != nullptr || dbeta.data != nullptr) {
      SumPlanes<T>(context, PlaneShape{rows, n / args.spatial, args.spatial}, {x.data, dy.data},
                   AddRowGradients<T>{groups, dy.as<T>()}, FinishRowGradients<T>{dgamma.as<T>(), dbeta.as<T>()});
    }
    if (dx.data == nullptr) return;
    RowBackwardKernel<<<static_cast<unsigned>(rows * args.groups), kThreads, 0, context.stream>>>(groups, dy.as<T>(),
                                                                                                  dx.as<T>());
    LOCKSTEP_CUDA_CHECK_LAUNCH(context);
  });
}

}  // namespace lockstep::cuda
