// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/copy.h"
#include "worker/device/cuda/images.h"
#include "worker/device/cuda/pack.cuh"
#include "worker/device/cuda/planes.cuh"
#include "worker/device/cuda/round.cuh"
#include "worker/device/cuda/visit.h"

namespace lockstep::cuda {

namespace {

constexpr int kTile = 32;
constexpr int kTileThreads = 8;
// A tile of fewer would be mostly empty.
constexpr int64_t kNarrow = 8;

// Of each matrix [height, width] the transpose, by tiles. Block: a tile of one matrix, threads [8, 32].
template <typename T>
__global__ void __launch_bounds__(kTile* kTileThreads)
    TransposeKernel(int64_t height, int64_t width, const T* __restrict__ from, T* __restrict__ to) {
  // A column more, so that a column of the tile lies in different banks.
  __shared__ T tile[kTile][kTile + 1];
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
    to[(left + i) * height + top + threadIdx.x] = tile[threadIdx.x][i];
  }
}

// The same for few rows or columns.
template <typename T>
struct TransposeOp {
  int64_t height, width;
  const T* from;
  T* to;
  __device__ void operator()(int64_t i) const {
    const int64_t row = i % height, column = i / height % width, matrix = i / (height * width);
    to[i] = from[(matrix * height + row) * width + column];
  }
};

template <typename T>
void Transpose(Context& context, int64_t matrices, int64_t height, int64_t width, const T* from, T* to) {
  if (height < kNarrow || width < kNarrow) {
    return ForEach(context, matrices * height * width, TransposeOp<T>{height, width, from, to});
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

// Sixteen bytes of a factor.
template <typename To>
inline constexpr int kRun = 16 / static_cast<int>(sizeof(To));

template <typename To, typename Round>
struct PackImagesOp {
  Frame frame;
  Round round;
  const float* from;
  To* to;
  __device__ void operator()(int64_t i) const {
    const int64_t runs = frame.library_channels / kRun<To>, pixel = i / runs, channel = i % runs * kRun<To>;
    const int64_t column = pixel % frame.size[1] - frame.begin[1];
    const int64_t row = pixel / frame.size[1] % frame.size[0] - frame.begin[0];
    const int64_t image = pixel / (frame.size[0] * frame.size[1]);
    const bool inside = row >= 0 && row < frame.in[0] && column >= 0 && column < frame.in[1];
    const float* source = from + ((image * frame.in[0] + row) * frame.in[1] + column) * frame.channels + channel;
    Pack<To, kRun<To>> run;
    for (int k = 0; k < kRun<To>; ++k) run.at[k] = round(inside && channel + k < frame.channels ? source[k] : 0.0f);
    run.Store(to + i * kRun<To>);
  }
};

template <typename To, typename Round>
struct PackKernelOp {
  int64_t channels, library_channels, window;
  Round round;
  const float* from;
  To* to;
  __device__ void operator()(int64_t i) const {
    const int64_t channel = i % library_channels, place = i / library_channels % window;
    const int64_t filter = i / (library_channels * window);
    to[i] = round(channel < channels ? from[(filter * channels + channel) * window + place] : 0.0f);
  }
};

struct UnpackImagesOp {
  Frame frame;
  const float* from;
  float* to;
  __device__ void operator()(int64_t i) const {
    const int64_t channel = i % frame.channels, pixel = i / frame.channels;
    const int64_t column = pixel % frame.in[1] + frame.begin[1];
    const int64_t row = pixel / frame.in[1] % frame.in[0] + frame.begin[0];
    const int64_t image = pixel / (frame.in[0] * frame.in[1]);
    to[i] = from[((image * frame.size[0] + row) * frame.size[1] + column) * frame.library_channels + channel];
  }
};

struct UnpackKernelOp {
  int64_t channels, library_channels, window;
  const float* from;
  float* to;
  __device__ void operator()(int64_t i) const {
    const int64_t place = i % window, channel = i / window % channels, filter = i / (window * channels);
    to[i] = from[(filter * window + place) * library_channels + channel];
  }
};

// visit(element, rounding) of a factor's memory.
template <typename Visit>
void VisitFactor(DType type, ProductPrecision precision, Visit visit) {
  if (type == DType::kF32) return visit(float{}, ToFloat{precision});
  if (type == DType::kBF16) return visit(uint16_t{}, ToBf16{});
  visit(uint16_t{}, ToFloat16{});
}

int64_t Window(const ConvGeometry& g) { return g.window[0] * g.window[1]; }

}  // namespace

void Relayout(Context& context, Tensor from, Tensor to) {
  const Shape& shape = from.shape;
  const int64_t places = shape.rank() < 3 || shape.elements() == 0 ? 1 : shape.elements() / (shape[0] * shape[1]);
  if (from.layout == to.layout || places == 1 || shape[1] == 1) return Copy(context, from, to);
  const bool first = from.layout == Layout::kRowMajor;
  VisitReal(to.type, [&]<typename T>(T) {
    Transpose(context, shape[0], first ? shape[1] : places, first ? places : shape[1], from.as<T>(), to.as<T>());
  });
}

void PackImages(Context& context, const ConvGeometry& g, ProductPrecision precision, DType type, const float* from,
                void* to) {
  const int64_t n = g.rows * g.size[0] * g.size[1] * g.library_channels;
  VisitFactor(type, precision, [&]<typename To, typename Round>(To, Round round) {
    ForEach(context, n / kRun<To>, PackImagesOp<To, Round>{Frame(g), round, from, static_cast<To*>(to)});
  });
}

void PackKernel(Context& context, const ConvGeometry& g, ProductPrecision precision, DType type, const float* from,
                void* to) {
  VisitFactor(type, precision, [&]<typename To, typename Round>(To, Round round) {
    ForEach(context, g.filters * Window(g) * g.library_channels,
            PackKernelOp<To, Round>{g.channels, g.library_channels, Window(g), round, from, static_cast<To*>(to)});
  });
}

void UnpackImages(Context& context, const ConvGeometry& g, const float* from, float* to) {
  ForEach(context, g.rows * g.in[0] * g.in[1] * g.channels, UnpackImagesOp{Frame(g), from, to});
}

void UnpackKernel(Context& context, const ConvGeometry& g, const float* from, float* to) {
  ForEach(context, g.filters * g.channels * Window(g),
          UnpackKernelOp{g.channels, g.library_channels, Window(g), from, to});
}

}  // namespace lockstep::cuda
