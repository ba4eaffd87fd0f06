// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/activations.h"
#include "worker/device/cuda/pack.cuh"
#include "worker/device/cuda/pool.h"
#include "worker/device/cuda/reduce.cuh"
#include "worker/device/cuda/visit.h"
#include "worker/device/math/activations.h"

namespace lockstep::cuda {

namespace {

// From as many places of a window, a warp adds them; not where neighbours in memory are channels, which a warp reads
// side by side.
constexpr int64_t kWideWindow = 32;

// Images [planes, in, channels] and outputs [planes, out, channels]; index 0 is the height. Row-major images have a
// plane for each channel, and one channel. Every window has a place inside.
struct PoolShape {
  int64_t in[2], out[2], size[2], stride[2], pad[2];
  int64_t channels;
  int64_t inputs, outputs;
};

// Where a number lies.
struct Spot {
  int64_t plane, row, column, channel;
  __device__ Spot(const PoolShape& s, const int64_t (&size)[2], int64_t i) {
    // A division costs more than the branch.
    channel = s.channels == 1 ? 0 : i % s.channels;
    if (s.channels != 1) i /= s.channels;
    column = i % size[1];
    row = i / size[1] % size[0];
    plane = i / (size[0] * size[1]);
  }
};

// The part of a window inside the image, along one axis.
struct Span {
  int64_t begin, end;
};

__device__ Span Inside(const PoolShape& s, int axis, int64_t place) {
  const int64_t first = place * s.stride[axis] - s.pad[axis], last = first + s.size[axis];
  return {first < 0 ? 0 : first, last < s.in[axis] ? last : s.in[axis]};
}

// The outputs whose windows hold this place of the image, along one axis.
__device__ Span Over(const PoolShape& s, int axis, int64_t place) {
  const int64_t at = place + s.pad[axis], before = at - s.size[axis] + s.stride[axis];
  const int64_t begin = before < 0 ? 0 : before / s.stride[axis], end = at / s.stride[axis] + 1;
  return {begin, end < s.out[axis] ? end : s.out[axis]};
}

// A window's places inside its image, of Width channels.
template <typename T, int Width>
struct Window {
  using Numbers = Pack<T, Width>;
  const T* image;
  int64_t width, channels;
  Span rows, columns;

  __device__ Window(const PoolShape& s, const T* x, const Spot& output)
      : image(x + output.plane * s.in[0] * s.in[1] * s.channels + output.channel),
        width(s.in[1]),
        channels(s.channels),
        rows(Inside(s, 0, output.row)),
        columns(Inside(s, 1, output.column)) {}
  __device__ Window(const PoolShape& s, const T* x, int64_t output) : Window(s, x, Spot(s, s.out, output)) {}
  __device__ Numbers At(int64_t row, int64_t column) const {
    return Numbers::Load(image + (row * width + column) * channels);
  }
  __device__ int64_t Places() const { return (rows.end - rows.begin) * (columns.end - columns.begin); }
};

template <typename T>
struct MaxForward {
  PoolShape s;
  const T* x;
  T* y;
  template <int Width>
  __device__ void Run(int64_t output) const {
    const Window<T, Width> w(s, x, output);
    Pack<T, Width> largest;
    for (Real<T>& each : largest.at) each = LowestOf<Real<T>>();
    for (int64_t r = w.rows.begin; r < w.rows.end; ++r) {
      for (int64_t c = w.columns.begin; c < w.columns.end; ++c) {
        const Pack<T, Width> place = w.At(r, c);
        for (int k = 0; k < Width; ++k) {
          const Real<T> v = place.at[k];
          // A NaN stays.
          largest.at[k] = v > largest.at[k] || v != v ? v : largest.at[k];
        }
      }
    }
    largest.Store(y + output);
  }
};

template <typename T>
struct AverageForward {
  PoolShape s;
  const T* x;
  T* y;
  template <int Width>
  __device__ void Run(int64_t output) const {
    const Window<T, Width> w(s, x, output);
    Pack<T, Width> sum;
    for (Real<T>& each : sum.at) each = Real<T>(0);
    for (int64_t r = w.rows.begin; r < w.rows.end; ++r) {
      for (int64_t c = w.columns.begin; c < w.columns.end; ++c) {
        const Pack<T, Width> place = w.At(r, c);
        for (int k = 0; k < Width; ++k) sum.at[k] += place.at[k];
      }
    }
    for (Real<T>& each : sum.at) each /= static_cast<Real<T>>(w.Places());
    sum.Store(y + output);
  }
};

// A warp for an output: the window's places in order, 32 apart, then a tree over the lanes.
template <typename T>
__global__ void __launch_bounds__(kThreads) WideForwardKernel(PoolShape s, bool max, const T* x, T* y) {
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kThreads / kWarp);
  for (int64_t output = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp; output < s.outputs;
       output += warps) {
    const Window<T, 1> w(s, x, output);
    const int64_t columns = w.columns.end - w.columns.begin, places = w.Places();
    T total = max ? LowestOf<T>() : T(0);
    bool number = true;
    for (int64_t k = threadIdx.x % kWarp; k < places; k += kWarp) {
      const T v = w.At(w.rows.begin + k / columns, w.columns.begin + k % columns).at[0];
      number = number && v == v;
      total = max ? (v > total ? v : total) : total + v;
    }
    total = max ? WarpMax(total) : WarpSum(total) / static_cast<T>(places);
    if (max && !__all_sync(kAllLanes, number)) total = static_cast<T>(__longlong_as_double(0x7ff8000000000000ll));
    if (threadIdx.x % kWarp == 0) y[output] = total;
  }
}

// Sum over the windows that hold this input of what `share` gives it of the output's gradient.
template <typename T, typename Share, typename Before>
struct Backward {
  PoolShape s;
  Share share;
  Before before;
  const T* x;
  const T* dy;
  T* dx;
  template <int Width>
  __device__ void Run(int64_t input) const {
    const Spot at(s, s.in, input);
    const Span rows = Over(s, 0, at.row), columns = Over(s, 1, at.column);
    Pack<T, Width> sum;
    for (Real<T>& each : sum.at) each = Real<T>(0);
    Spot output = at;
    for (output.row = rows.begin; output.row < rows.end; ++output.row) {
      for (output.column = columns.begin; output.column < columns.end; ++output.column) {
        const int64_t i = ((at.plane * s.out[0] + output.row) * s.out[1] + output.column) * s.channels + at.channel;
        const Pack<T, Width> part = share(s, at, output, i, Pack<T, Width>::Load(dy + i));
        for (int k = 0; k < Width; ++k) sum.at[k] += part.at[k];
      }
    }
    before(sum, x + input);
    sum.Store(dx + input);
  }
};

// All of it to the first of the largest.
template <typename T>
struct MaxShare {
  const T* x;
  const T* y;
  template <int Width>
  __device__ Pack<T, Width> operator()(const PoolShape& s, const Spot& at, const Spot& output, int64_t i,
                                       Pack<T, Width> dy) const {
    const Window<T, Width> w(s, x, output);
    const Pack<T, Width> largest = Pack<T, Width>::Load(y + i), own = w.At(at.row, at.column);
    bool any = false;
    for (int k = 0; k < Width; ++k) {
      if (own.at[k] != largest.at[k]) dy.at[k] = Real<T>(0);
      any = any || own.at[k] == largest.at[k];
    }
    for (int64_t r = w.rows.begin; any && r <= at.row; ++r) {
      const int64_t end = r == at.row ? at.column : w.columns.end;
      for (int64_t c = w.columns.begin; c < end; ++c) {
        const Pack<T, Width> earlier = w.At(r, c);
        for (int k = 0; k < Width; ++k) {
          if (earlier.at[k] == largest.at[k]) dy.at[k] = Real<T>(0);
        }
      }
    }
    return dy;
  }
};

template <typename T>
struct AverageShare {
  template <int Width>
  __device__ Pack<T, Width> operator()(const PoolShape& s, const Spot&, const Spot& output, int64_t,
                                       Pack<T, Width> dy) const {
    const Span rows = Inside(s, 0, output.row), columns = Inside(s, 1, output.column);
    const auto places = static_cast<Real<T>>((rows.end - rows.begin) * (columns.end - columns.begin));
    for (Real<T>& each : dy.at) each /= places;
    return dy;
  }
};

struct NoneBefore {
  template <typename T, int Width>
  __device__ void operator()(Pack<T, Width>&, const T*) const {}
};

struct ReluBefore {
  template <typename T, int Width>
  __device__ void operator()(Pack<T, Width>& gradient, const T* x) const {
    const Pack<T, Width> put_out = Pack<T, Width>::Load(x);
    for (int k = 0; k < Width; ++k) gradient.at[k] *= ReluMath{}.Gradient(put_out.at[k], put_out.at[k]);
  }
};

PoolShape PoolShapeOf(const WindowArgs& args, const Tensor& x, const Tensor& y) {
  return {.in = {x.shape[2], x.shape[3]},
          .out = {y.shape[2], y.shape[3]},
          .size = {args.size[0], args.size[1]},
          .stride = {args.stride[0], args.stride[1]},
          .pad = {args.pad_begin[0], args.pad_begin[1]},
          .channels = x.layout == Layout::kImages ? x.shape[1] : 1,
          .inputs = x.elements(),
          .outputs = y.elements()};
}

}  // namespace

void PoolForward(Context& context, Pooling kind, const WindowArgs& args, Tensor x, Tensor y) {
  if (y.elements() == 0) return;
  const PoolShape s = PoolShapeOf(args, x, y);
  if (s.channels == 1 && args.size[0] * args.size[1] >= kWideWindow) {
    return VisitReal(x.type, [&]<typename T>(T) {
      WideForwardKernel<<<BlocksFor(context, s.outputs * kWarp), kThreads, 0, context.stream>>>(
          s, kind == Pooling::kMax, x.as<T>(), y.as<T>());
      LOCKSTEP_CUDA_CHECK_LAUNCH(context);
    });
  }
  VisitStored(x.type, [&]<typename T>(T) {
    const auto run = [&](auto op) { ForPacks<T>(context, s.outputs, s.channels, {x.data, y.data}, op); };
    kind == Pooling::kMax ? run(MaxForward<T>{s, x.as<T>(), y.as<T>()})
                          : run(AverageForward<T>{s, x.as<T>(), y.as<T>()});
  });
}

void PoolBackward(Context& context, Pooling kind, const WindowArgs& args, Tensor x, Tensor y, Tensor dy,
                  const ActivationArgs& before, Tensor dx) {
  if (dx.elements() == 0) return;
  const PoolShape s = PoolShapeOf(args, dx, dy);
  // The gradient of relu costs nothing here; that of another function is a pass of its own.
  const bool relu = before.kind == Activation::kRelu;
  VisitStored(dx.type, [&]<typename T>(T) {
    const auto run = [&](auto share, auto first) {
      ForPacks<T>(context, s.inputs, s.channels, {x.data, y.data, dy.data, dx.data},
                  Backward<T, decltype(share), decltype(first)>{s, share, first, x.as<T>(), dy.as<T>(), dx.as<T>()});
    };
    const auto with = [&](auto share) { relu ? run(share, ReluBefore{}) : run(share, NoneBefore{}); };
    kind == Pooling::kMax ? with(MaxShare<T>{x.as<T>(), y.as<T>()}) : with(AverageShare<T>{});
  });
  if (!relu && !before.linear()) ActivationBackward(context, before, {}, x, dx, dx);
}

}  // namespace lockstep::cuda
