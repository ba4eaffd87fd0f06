// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/conv_kernels.h"
#include "worker/device/cuda/pack.cuh"
#include "worker/device/cuda/planes.cuh"
#include "worker/device/cuda/round.cuh"
#include "worker/device/cuda/visit.h"
#include "worker/device/math/activations.h"

namespace lockstep::cuda {

namespace {

struct RoundOp {
  ProductPrecision precision;
  const float* from;
  float* to;
  template <int Width>
  __device__ void Run(int64_t i) const {
    Pack<float, Width> v = Pack<float, Width>::Load(from + i);
    for (float& each : v.at) each = ToFloat{precision}(each);
    v.Store(to + i);
  }
};

// The images in their copy.
struct Frame {
  explicit Frame(const ConvGeometry& g)
      : in{g.in[0], g.in[1]}, size{g.size[0], g.size[1]}, begin{g.begin[0], g.begin[1]} {}
  int64_t in[2], size[2], begin[2];
};

struct PadOp {
  Frame frame;
  ProductPrecision precision;
  const float* from;
  float* to;
  __device__ void operator()(int64_t i) const {
    const int64_t column = i % frame.size[1] - frame.begin[1], row = i / frame.size[1] % frame.size[0] - frame.begin[0];
    const int64_t plane = i / (frame.size[0] * frame.size[1]);
    const bool inside = row >= 0 && row < frame.in[0] && column >= 0 && column < frame.in[1];
    to[i] = inside ? ToFloat{precision}(from[(plane * frame.in[0] + row) * frame.in[1] + column]) : 0.0f;
  }
};

struct CropOp {
  Frame frame;
  const float* from;
  float* to;
  __device__ void operator()(int64_t i) const {
    const int64_t column = i % frame.in[1] + frame.begin[1], row = i / frame.in[1] % frame.in[0] + frame.begin[0];
    to[i] = from[(i / (frame.in[0] * frame.in[1]) * frame.size[0] + row) * frame.size[1] + column];
  }
};

template <typename T, typename Math>
struct BiasOp {
  Math math;
  const Real<T>* bias;
  T* y;
  __device__ Real<T> Of(int64_t channel) const { return bias == nullptr ? Real<T>(0) : bias[channel]; }
  template <int Width, typename Biases>
  __device__ void Run(int64_t i, const Biases& biases) const {
    Pack<T, Width> v = Pack<T, Width>::Load(y + i);
    for (int k = 0; k < Width; ++k) v.at[k] = math.Forward(v.at[k] + biases[k]);
    v.Store(y + i);
  }
};

template <typename T>
struct AddNumbers {
  const T* dy;
  template <int Width>
  __device__ void Run(PairSum* sums, int64_t, int64_t, int64_t i) const {
    const Pack<T, Width> d = Pack<T, Width>::Load(dy + i);
    for (int k = 0; k < Width; ++k) sums[k].first += static_cast<double>(d.at[k]);
  }
};

template <typename T>
struct FinishBias {
  T* dbias;
  __device__ void operator()(int64_t f, PairSum sum) const { dbias[f] = static_cast<T>(sum.first); }
};

// A convolution as it is defined. x: [rows, channels, in], kernel: [filters, channels / groups, size],
// y: [rows, filters, out].
struct DirectShape {
  DirectShape(const WindowArgs& args, const Shape& x, const Shape& kernel, const Shape& y)
      : rows(x[0]),
        channels(x[1]),
        filters(y[1]),
        depth(kernel[1]),
        in{x[2], x[3]},
        out{y[2], y[3]},
        size{args.size[0], args.size[1]},
        stride{args.stride[0], args.stride[1]},
        dilation{args.dilation[0], args.dilation[1]},
        pad{args.pad_begin[0], args.pad_begin[1]} {}

  int64_t rows, channels, filters, depth;
  int64_t in[2], out[2], size[2], stride[2], dilation[2], pad[2];

  // The place of the image under place p of the window of output i, along one axis; -1: outside.
  __device__ int64_t Under(int axis, int64_t i, int64_t p) const {
    const int64_t at = i * stride[axis] - pad[axis] + p * dilation[axis];
    return at < in[axis] ? at : -1;
  }
  // The output whose place p of the window is over this place; -1: none.
  __device__ int64_t Over(int axis, int64_t place, int64_t p) const {
    const int64_t at = place + pad[axis] - p * dilation[axis];
    if (at < 0 || at % stride[axis] != 0) return -1;
    const int64_t i = at / stride[axis];
    return i < out[axis] ? i : -1;
  }
  __device__ int64_t FiltersOfGroup() const { return filters / (channels / depth); }
};

template <typename T>
struct DirectForwardOp {
  DirectShape s;
  const T* x;
  const T* kernel;
  T* y;
  __device__ void operator()(int64_t output) const {
    const int64_t j = output % s.out[1], i = output / s.out[1] % s.out[0];
    const int64_t f = output / (s.out[0] * s.out[1]) % s.filters;
    const int64_t first = f / s.FiltersOfGroup() * s.depth;
    const T* image = x + (output / (s.filters * s.out[0] * s.out[1]) * s.channels + first) * s.in[0] * s.in[1];
    T sum = T(0);
    for (int64_t c = 0; c < s.depth; ++c) {
      for (int64_t p = 0; p < s.size[0]; ++p) {
        const int64_t row = s.Under(0, i, p);
        for (int64_t q = 0; row >= 0 && q < s.size[1]; ++q) {
          const int64_t column = s.Under(1, j, q);
          if (column < 0) continue;
          sum += image[(c * s.in[0] + row) * s.in[1] + column] *
                 kernel[((f * s.depth + c) * s.size[0] + p) * s.size[1] + q];
        }
      }
    }
    y[output] = sum;
  }
};

template <typename T>
struct DirectInputOp {
  DirectShape s;
  const T* dy;
  const T* kernel;
  T* dx;
  __device__ void operator()(int64_t input) const {
    const int64_t column = input % s.in[1], row = input / s.in[1] % s.in[0];
    const int64_t channel = input / (s.in[0] * s.in[1]) % s.channels;
    const int64_t n = input / (s.channels * s.in[0] * s.in[1]);
    const int64_t filters = s.FiltersOfGroup(), first = channel / s.depth * filters, c = channel % s.depth;
    T sum = T(0);
    for (int64_t f = first; f < first + filters; ++f) {
      for (int64_t p = 0; p < s.size[0]; ++p) {
        const int64_t i = s.Over(0, row, p);
        for (int64_t q = 0; i >= 0 && q < s.size[1]; ++q) {
          const int64_t j = s.Over(1, column, q);
          if (j < 0) continue;
          sum += dy[((n * s.filters + f) * s.out[0] + i) * s.out[1] + j] *
                 kernel[((f * s.depth + c) * s.size[0] + p) * s.size[1] + q];
        }
      }
    }
    dx[input] = sum;
  }
};

// A block for each weight.
template <typename T>
__global__ void __launch_bounds__(kThreads) DirectKernelKernel(DirectShape s, const T* x, const T* dy, T* dkernel) {
  __shared__ T shared[kThreads];
  const int64_t weight = blockIdx.x;
  const int64_t q = weight % s.size[1], p = weight / s.size[1] % s.size[0];
  const int64_t c = weight / (s.size[0] * s.size[1]) % s.depth, f = weight / (s.depth * s.size[0] * s.size[1]);
  const int64_t channel = f / s.FiltersOfGroup() * s.depth + c, places = s.out[0] * s.out[1];
  T sum = T(0);
  for (int64_t k = threadIdx.x; k < s.rows * places; k += kThreads) {
    const int64_t n = k / places, i = k % places / s.out[1], j = k % s.out[1];
    const int64_t row = s.Under(0, i, p), column = s.Under(1, j, q);
    if (row < 0 || column < 0) continue;
    sum += x[((n * s.channels + channel) * s.in[0] + row) * s.in[1] + column] *
           dy[(n * s.filters + f) * places + k % places];
  }
  sum = BlockSum<kThreads>(sum, shared);
  if (threadIdx.x == 0) dkernel[weight] = sum;
}

}  // namespace

void RoundToFloats(Context& context, ProductPrecision precision, const float* from, int64_t n, float* to) {
  ForPacks<float>(context, n, n, {from, to}, RoundOp{precision, from, to});
}

void PadImages(Context& context, const ConvGeometry& g, ProductPrecision precision, const float* from, float* to) {
  ForEach(context, g.rows * g.channels * g.size[0] * g.size[1], PadOp{Frame(g), precision, from, to});
}

void CropImages(Context& context, const ConvGeometry& g, const float* from, float* to) {
  ForEach(context, g.rows * g.channels * g.in[0] * g.in[1], CropOp{Frame(g), from, to});
}

void PlaneBiasActivation(Context& context, const ActivationArgs& activation, Tensor bias, Tensor y) {
  if (y.elements() == 0 || (bias.data == nullptr && activation.linear())) return;
  VisitStored(y.type, [&]<typename T>(T) {
    VisitActivation(activation, [&](auto math) {
      ForPlanes<T>(context, PlanesOf(y), {y.data}, BiasOp<T, decltype(math)>{math, bias.as<Real<T>>(), y.as<T>()});
    });
  });
}

void PlaneBiasGradient(Context& context, Tensor dy, Tensor dbias) {
  VisitStored(dy.type, [&]<typename T>(T) {
    SumPlanes<T>(context, PlanesOf(dy), {dy.data}, AddNumbers<T>{dy.as<T>()}, FinishBias<Real<T>>{dbias.as<Real<T>>()});
  });
}

void DirectForward(Context& context, const WindowArgs& args, Tensor x, Tensor kernel, Tensor y) {
  const DirectShape s(args, x.shape, kernel.shape, y.shape);
  VisitReal(x.type, [&]<typename T>(T) {
    ForEach(context, y.elements(), DirectForwardOp<T>{s, x.as<T>(), kernel.as<T>(), y.as<T>()});
  });
}

void DirectBackwardInput(Context& context, const WindowArgs& args, Tensor dy, Tensor kernel, Tensor dx) {
  const DirectShape s(args, dx.shape, kernel.shape, dy.shape);
  VisitReal(dx.type, [&]<typename T>(T) {
    ForEach(context, dx.elements(), DirectInputOp<T>{s, dy.as<T>(), kernel.as<T>(), dx.as<T>()});
  });
}

void DirectBackwardKernel(Context& context, const WindowArgs& args, Tensor x, Tensor dy, Tensor dkernel) {
  const DirectShape s(args, x.shape, dkernel.shape, dy.shape);
  VisitReal(x.type, [&]<typename T>(T) {
    DirectKernelKernel<<<static_cast<unsigned>(dkernel.elements()), kThreads, 0, context.stream>>>(
        s, x.as<T>(), dy.as<T>(), dkernel.as<T>());
  });
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
}

}  // namespace lockstep::cuda
