// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/copy.h"
#include "worker/device/cuda/images.h"
#include "worker/device/cuda/pack.cuh"
#include "worker/device/cuda/round.cuh"

namespace lockstep::cuda {

namespace {

constexpr int kTile = 32;
constexpr int kTileThreads = 8;
// A tile of fewer would be mostly empty.
constexpr int64_t kNarrow = 8;

// Of each matrix [height, width] the transpose, by tiles. Block: a tile of one matrix, threads [8, 32].
template <typename From, typename To>
__global__ void __launch_bounds__(kTile* kTileThreads)
    TransposeKernel(int64_t height, int64_t width, const From* __restrict__ from, To* __restrict__ to) {
  // A column more, so that a column of the tile lies in different banks.
  __shared__ Real<To> tile[kTile][kTile + 1];
  const int64_t across = (width + kTile - 1) / kTile, down = (height + kTile - 1) / kTile;
  const int64_t matrix = blockIdx.x / (across * down);
  const int64_t top = blockIdx.x / across % down * kTile, left = blockIdx.x % across * kTile;
  from += matrix * height * width;
  to += matrix * height * width;
  for (int i = static_cast<int>(threadIdx.y); i < kTile; i += kTileThreads) {
    if (top + i >= height || left + threadIdx.x >= width) continue;
    tile[i][threadIdx.x] = from[(top + i) * width + left + threadIdx.x];
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.y); i < kTile; i += kTileThreads) {
    if (left + i >= width || top + threadIdx.x >= height) continue;
    to[(left + i) * height + top + threadIdx.x] = static_cast<To>(tile[threadIdx.x][i]);
  }
}

// The same for few rows or columns.
template <typename From, typename To>
struct TransposeOp {
  int64_t height, width;
  const From* from;
  To* to;
  __device__ void operator()(int64_t i) const {
    const int64_t row = i % height, column = i / height % width, matrix = i / (height * width);
    to[i] = static_cast<To>(static_cast<Real<To>>(from[(matrix * height + row) * width + column]));
  }
};

template <typename From, typename To>
void Transpose(Context& context, int64_t matrices, int64_t height, int64_t width, const From* from, To* to) {
  if (height < kNarrow || width < kNarrow) {
    return ForEach(context, matrices * height * width, TransposeOp<From, To>{height, width, from, to});
  }
  const int64_t tiles = ((height + kTile - 1) / kTile) * ((width + kTile - 1) / kTile);
  TransposeKernel<<<static_cast<unsigned>(matrices * tiles), dim3(kTile, kTileThreads), 0, context.stream>>>(
      height, width, from, to);
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
}

// The geometry, where a kernel can have it.
struct Frame {
  explicit Frame(const ConvGeometry& g)
      : channels(g.channels),
        library_channels(g.library_channels),
        in{g.in[0], g.in[1]},
        size{g.size[0], g.size[1]},
        begin{g.begin[0], g.begin[1]} {}
  int64_t channels, library_channels;
  int64_t in[2], size[2], begin[2];
};

template <typename T>
struct PackImagesOp {
  Frame frame;
  ToFloat round;
  const T* from;
  T* to;
  __device__ void operator()(int64_t i) const {
    constexpr int kRun = kPackWidth<T>;
    const int64_t runs = frame.library_channels / kRun, pixel = i / runs, channel = i % runs * kRun;
    const int64_t column = pixel % frame.size[1] - frame.begin[1];
    const int64_t row = pixel / frame.size[1] % frame.size[0] - frame.begin[0];
    const int64_t image = pixel / (frame.size[0] * frame.size[1]);
    const bool inside = row >= 0 && row < frame.in[0] && column >= 0 && column < frame.in[1];
    const T* source = from + ((image * frame.in[0] + row) * frame.in[1] + column) * frame.channels + channel;
    Pack<T, kRun> run;
    for (int k = 0; k < kRun; ++k) {
      run.at[k] = inside && channel + k < frame.channels ? round(static_cast<float>(source[k])) : 0.0f;
    }
    run.Store(to + i * kRun);
  }
};

template <typename T>
struct PackKernelOp {
  int64_t channels, library_channels, window, filters;
  ToFloat round;
  const float* kernel;
  const float* bias;
  T* to;
  __device__ void operator()(int64_t i) const {
    const int64_t channel = i % library_channels, place = i / library_channels % window;
    const int64_t filter = i / (library_channels * window);
    if (filter < filters) {
      to[i] = static_cast<T>(channel < channels ? round(kernel[(filter * channels + channel) * window + place]) : 0.0f);
    } else {
      to[i] = static_cast<T>(bias == nullptr ? 0.0f : bias[i - filters * window * library_channels]);
    }
  }
};

template <typename T>
struct UnpackImagesOp {
  Frame frame;
  const T* from;
  T* to;
  __device__ void operator()(int64_t i) const {
    const int64_t channel = i % frame.channels, pixel = i / frame.channels;
    const int64_t column = pixel % frame.in[1] + frame.begin[1];
    const int64_t row = pixel / frame.in[1] % frame.in[0] + frame.begin[0];
    const int64_t image = pixel / (frame.in[0] * frame.in[1]);
    to[i] = from[((image * frame.size[0] + row) * frame.size[1] + column) * frame.library_channels + channel];
  }
};

template <typename T>
struct UnpackKernelOp {
  int64_t channels, library_channels, window;
  const T* from;
  float* to;
  __device__ void operator()(int64_t i) const {
    const int64_t place = i % window, channel = i / window % channels, filter = i / (window * channels);
    to[i] = from[(filter * window + place) * library_channels + channel];
  }
};

int64_t Window(const ConvGeometry& g) { return g.window[0] * g.window[1]; }

}  // namespace

void Relayout(Context& context, Tensor from, Tensor to) {
  const Shape& shape = from.shape;
  if (shape.elements() == 0) return;
  const int64_t places = shape.rank() < 3 ? 1 : shape.elements() / (shape[0] * shape[1]);
  const bool turns = from.layout != to.layout && places != 1 && shape[1] != 1;
  if (!turns && from.type == to.type) return Copy(context, from, to);
  const bool first = from.layout == Layout::kRowMajor;
  const int64_t matrices = turns ? shape[0] : 1, height = !turns ? 1 : (first ? shape[1] : places);
  const int64_t width = shape.elements() / (matrices * height);
  VisitConversion(from.type, to.type, [&]<typename From, typename To>(From, To) {
    Transpose(context, matrices, height, width, from.as<From>(), to.as<To>());
  });
}

void PackImages(Context& context, const ConvGeometry& g, ProductPrecision precision, const Tensor& from, void* to) {
  VisitFactor(from.type, [&]<typename T>(T) {
    ForEach(context, g.library_images() / kPackWidth<T>,
            PackImagesOp<T>{Frame(g), ToFloat{precision}, from.as<T>(), static_cast<T*>(to)});
  });
}

void PackKernel(Context& context, const ConvGeometry& g, ProductPrecision precision, DType type, const float* kernel,
                const float* bias, void* to) {
  VisitFactor(type, [&]<typename T>(T) {
    ForEach(context, g.library_kernel() + g.filters,
            PackKernelOp<T>{g.channels, g.library_channels, Window(g), g.filters, ToFloat{precision}, kernel, bias,
                            static_cast<T*>(to)});
  });
}

void UnpackImages(Context& context, const ConvGeometry& g, const void* from, const Tensor& to) {
  VisitFactor(to.type, [&]<typename T>(T) {
    ForEach(context, g.rows * g.in[0] * g.in[1] * g.channels,
            UnpackImagesOp<T>{Frame(g), static_cast<const T*>(from), to.as<T>()});
  });
}

void UnpackKernel(Context& context, const ConvGeometry& g, DType type, const void* from, float* to) {
  VisitFactor(type, [&]<typename T>(T) {
    ForEach(context, g.filters * g.channels * Window(g),
            UnpackKernelOp<T>{g.channels, g.library_channels, Window(g), static_cast<const T*>(from), to});
  });
}

}  // namespace lockstep::cuda
