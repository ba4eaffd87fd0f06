// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>

#include "worker/device/cuda/dense_chain.h"
#include "worker/device/cuda/judged.cuh"
#include "worker/device/cuda/launch.cuh"
#include "worker/device/cuda/softmax_row.cuh"
#include "worker/device/math/activations.h"

namespace lockstep::cuda {

namespace {

constexpr int kMaxLayers = 4;
constexpr int64_t kMaxRows = 128;
// Outputs of all layers, and the gradient of the last one, in the memory of a block.
constexpr int64_t kMaxValues = 10240;
// Products of the first layer, where a library uses more of the machine from some size on, and those that each block
// does. Not measured yet.
constexpr int64_t kMaxFirstProducts = int64_t{1} << 24;
constexpr int64_t kMaxOtherProducts = int64_t{1} << 18;

// A block of the first layer does so many outputs; for each column of its outputs there are as many threads as parts
// of the depth.
constexpr int kTileRows = 4;
constexpr int kTileColumns = 8;
constexpr int kDepthParts = kThreads / kTileColumns;

// What a kernel knows of a layer. Behind each gradient lie so many zeros.
struct Layer {
  ActivationArgs activation;
  const float* kernel;
  const float* bias;
  float* y;
  float* dkernel;
  float* dbias;
  int inputs;
  int units;
  int zeros_behind_kernel;
  int zeros_behind_bias;
};

struct Chain {
  int rows;
  int count;
  const float* x;
  Layer layers[kMaxLayers];
  SoftmaxRow<float> loss;
  double* loss_sum;
  TopK<float> hits;
  int64_t* not_finite;
};

__device__ int Least(int a, int b) { return a < b ? a : b; }

__device__ float Applied(const ActivationArgs& activation, float x) {
  float y = 0;
  VisitActivation(activation, [&](auto math) { y = math.Forward(x); });
  return y;
}

// By the output alone; see GradientNeedsInput.
__device__ float Slope(const ActivationArgs& activation, float y) {
  float slope = 0;
  VisitActivation(activation, [&](auto math) { slope = math.Gradient(0.0f, y); });
  return slope;
}

// The sum over i of a[i * a_step] * b[i * b_step]: four sums, and theirs.
__device__ float Dot(const float* a, int a_step, const float* b, int b_step, int n) {
  float sums[4] = {0, 0, 0, 0};
  for (int i = 0; i < n; i += 4) {
    for (int j = 0; j < 4; ++j) {
      if (i + j < n) sums[j] += a[(i + j) * a_step] * b[(i + j) * b_step];
    }
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

__global__ void __launch_bounds__(kThreads) FirstLayerKernel(Layer layer, const float* x, int rows) {
  __shared__ float parts[kDepthParts][kTileRows][kTileColumns];
  const int column = static_cast<int>(threadIdx.x) % kTileColumns, part = static_cast<int>(threadIdx.x) / kTileColumns;
  const int first_row = static_cast<int>(blockIdx.y) * kTileRows;
  const int first_column = static_cast<int>(blockIdx.x) * kTileColumns;
  // What is outside is computed too, of what is there, and left.
  const float* const weights = layer.kernel + Least(first_column + column, layer.units - 1);
  const float* samples[kTileRows];
  float sums[kTileRows];
  for (int r = 0; r < kTileRows; ++r) {
    samples[r] = x + static_cast<int64_t>(Least(first_row + r, rows - 1)) * layer.inputs;
    sums[r] = 0;
  }
#pragma unroll 8
  for (int k = part; k < layer.inputs; k += kDepthParts) {
    const float weight = weights[static_cast<int64_t>(k) * layer.units];
    for (int r = 0; r < kTileRows; ++r) sums[r] += samples[r][k] * weight;
  }
  for (int r = 0; r < kTileRows; ++r) parts[part][r][column] = sums[r];
  __syncthreads();
  const int r = static_cast<int>(threadIdx.x) / kTileColumns;
  if (r >= kTileRows || first_row + r >= rows || first_column + column >= layer.units) return;
  float sum[4] = {0, 0, 0, 0};
  for (int p = 0; p < kDepthParts; ++p) sum[p % 4] += parts[p][r][column];
  const float bias = layer.bias == nullptr ? 0.0f : layer.bias[first_column + column];
  layer.y[(first_row + r) * layer.units + first_column + column] =
      Applied(layer.activation, ((sum[0] + sum[1]) + (sum[2] + sum[3])) + bias);
}

// y of a layer from that of the one before it, both in the block's memory.
__device__ void Forward(const Layer& layer, int rows, const float* x, float* y) {
  for (int i = static_cast<int>(threadIdx.x); i < rows * layer.units; i += kThreads) {
    const int row = i / layer.units, unit = i % layer.units;
    const float sum = Dot(x + row * layer.inputs, 1, layer.kernel + unit, layer.units, layer.inputs);
    y[i] = Applied(layer.activation, layer.bias == nullptr ? sum : sum + layer.bias[unit]);
    // For who counts it, or looks for numbers that are not finite.
    if (blockIdx.x == 0) layer.y[i] = y[i];
  }
  __syncthreads();
}

// The rows' losses, and the gradient of the last layer's output `y`; what they come to is left by the first block.
__device__ void Lose(const Chain& chain, const float* y, float* dy) {
  __shared__ double losses[kMaxRows];
  __shared__ int found[kMaxRows];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  SoftmaxRow<float> loss_of = chain.loss;
  loss_of.p.x = y;
  loss_of.p.d = dy;
  TopK<float> hits_of = chain.hits;
  hits_of.judged.y = y;
  const bool counts = blockIdx.x == 0 && hits_of.sum != nullptr;
  for (int row = warp; row < chain.rows; row += kThreads / kWarp) {
    const double loss = loss_of(row);
    const bool hit = counts && hits_of.Found(row);
    if (lane == 0) {
      losses[row] = loss;
      found[row] = hit ? 1 : 0;
    }
  }
  __syncthreads();
  if (blockIdx.x != 0 || warp != 0) return;
  double sum = 0;
  int hits = 0;
  for (int row = lane; row < chain.rows; row += kWarp) {
    sum += losses[row];
    hits += found[row];
  }
  sum = WarpSum(sum);
  hits = WarpSum(hits);
  if (lane != 0) return;
  *chain.loss_sum += sum;
  if (counts) *hits_of.sum += hits;
}

// This block's share of a layer's gradients. x: [rows, inputs]; dy: [rows, units]. False: one of them is not finite.
__device__ bool Weights(const Layer& layer, int rows, const float* x, const float* dy) {
  const int weights = layer.inputs * layer.units, all = weights + (layer.dbias == nullptr ? 0 : layer.units);
  bool finite = true;
  for (int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x); i < all;
       i += static_cast<int>(gridDim.x) * kThreads) {
    const int unit = i < weights ? i % layer.units : i - weights;
    float sum = 0;
    if (i < weights) {
      sum = Dot(x + i / layer.units, layer.inputs, dy + unit, layer.units, rows);
      layer.dkernel[i] = sum;
    } else {
      for (int row = 0; row < rows; ++row) sum += dy[row * layer.units + unit];
      layer.dbias[unit] = sum;
    }
    finite = finite && isfinite(sum);
  }
  if (blockIdx.x != 0) return finite;
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < layer.zeros_behind_kernel; i += kThreads) layer.dkernel[weights + i] = 0;
  for (int i = thread; i < layer.zeros_behind_bias; i += kThreads) layer.dbias[layer.units + i] = 0;
  return finite;
}

// y becomes its own gradient. dy: of the layer's output; y: what it was given, put out by `before`.
__device__ void Backward(const Layer& layer, const Layer& before, int rows, const float* dy, float* y) {
  for (int i = static_cast<int>(threadIdx.x); i < rows * layer.inputs; i += kThreads) {
    const int row = i / layer.inputs, input = i % layer.inputs;
    const float sum = Dot(dy + row * layer.units, 1, layer.kernel + input * layer.units, 1, layer.units);
    y[i] = sum * Slope(before.activation, y[i]);
  }
  __syncthreads();
}

// All behind the first layer's output, and its gradients.
__global__ void __launch_bounds__(kThreads) RestKernel(Chain chain) {
  __shared__ float values[kMaxValues];
  float* y[kMaxLayers];
  float* at = values;
  for (int i = 0; i < chain.count; ++i) {
    y[i] = at;
    at += chain.rows * chain.layers[i].units;
  }
  for (int i = static_cast<int>(threadIdx.x); i < chain.rows * chain.layers[0].units; i += kThreads) {
    y[0][i] = chain.layers[0].y[i];
  }
  __syncthreads();
  for (int i = 1; i < chain.count; ++i) Forward(chain.layers[i], chain.rows, y[i - 1], y[i]);
  const int last = chain.count - 1;
  Lose(chain, y[last], at);
  y[last] = at;
  bool finite = true;
  for (int i = last; i > 0; --i) {
    finite = Weights(chain.layers[i], chain.rows, y[i - 1], y[i]) && finite;
    // Before what they read is overwritten.
    __syncthreads();
    Backward(chain.layers[i], chain.layers[i - 1], chain.rows, y[i], y[i - 1]);
  }
  finite = Weights(chain.layers[0], chain.rows, chain.x, y[0]) && finite;
  // Who finds one writes the same number as everybody else.
  if (!finite && chain.not_finite != nullptr) *chain.not_finite = 1;
}

// Elements from the end of `tensor`, one of the chain's gradients, to the next one or to the end of all.
int ZerosBehind(const DenseChain& chain, const Tensor& tensor) {
  if (tensor.data == nullptr) return 0;
  const float* const end = tensor.as<float>() + tensor.elements();
  const float* next = chain.gradient.as<float>() + chain.gradient.elements();
  for (const ChainLayer& layer : chain.layers) {
    for (const float* const start : {layer.dkernel.as<float>(), layer.dbias.as<float>()}) {
      if (start >= end && start < next) next = start;
    }
  }
  return static_cast<int>(next - end);
}

Layer LayerOf(const DenseChain& chain, const ChainLayer& layer) {
  return {layer.activation,
          layer.kernel.as<float>(),
          layer.bias.as<float>(),
          layer.y.as<float>(),
          layer.dkernel.as<float>(),
          layer.dbias.as<float>(),
          static_cast<int>(layer.kernel.shape[0]),
          static_cast<int>(layer.kernel.shape[1]),
          ZerosBehind(chain, layer.dkernel),
          ZerosBehind(chain, layer.dbias)};
}

Chain ChainOf(const DenseChain& chain) {
  const Tensor& output = chain.layers.back().y;
  Chain on_gpu{.rows = static_cast<int>(chain.x.shape[0]),
               .count = static_cast<int>(chain.layers.size()),
               .x = chain.x.as<float>(),
               .layers = {},
               .loss = {CrossEntropyProblem<float>(chain.loss, output, chain.targets, chain.scale, {})},
               .loss_sum = chain.loss_sum.as<double>(),
               .hits = {Judged<float>(output, chain.targets), 1, chain.hits.as<double>()},
               .not_finite = nullptr};
  for (size_t i = 0; i < chain.layers.size(); ++i) on_gpu.layers[i] = LayerOf(chain, chain.layers[i]);
  return on_gpu;
}

// Blocks that share the elements of the first layer's gradient.
unsigned BlocksOfRest(const Context& context, const Layer& first) {
  const int elements = (first.inputs + 1) * first.units;
  return static_cast<unsigned>(std::clamp((elements + kThreads - 1) / kThreads, 1, context.sm_count));
}

bool TakesLayer(const ChainLayer& layer) {
  return layer.kernel.type == DType::kF32 && !GradientNeedsInput(layer.activation.kind);
}

}  // namespace

bool TakesDenseChain(const DenseChain& chain) {
  const auto count = static_cast<int64_t>(chain.layers.size());
  const int64_t rows = chain.x.shape[0];
  if (count < 2 || count > kMaxLayers || rows < 1 || rows > kMaxRows || chain.x.type != DType::kF32) return false;
  if (!std::ranges::all_of(chain.layers, TakesLayer) || !chain.layers.back().activation.linear()) return false;
  int64_t values = chain.layers.back().kernel.shape[1], others = 0;
  for (const ChainLayer& layer : chain.layers) {
    values += layer.kernel.shape[1];
    if (&layer != &chain.layers.front()) others += layer.kernel.elements();
  }
  return rows * values <= kMaxValues && rows * chain.layers.front().kernel.elements() <= kMaxFirstProducts &&
         rows * others <= kMaxOtherProducts;
}

void RunDenseChain(Context& context, const DenseChain& chain) {
  Chain on_gpu = ChainOf(chain);
  Recording& recording = context.recording;
  if (recording.cursor != nullptr) {
    on_gpu.not_finite = &recording.cursor->not_finite;
    recording.looked_through = chain.gradient.data;
  }
  const Layer& first = on_gpu.layers[0];
  const dim3 grid(static_cast<unsigned>((first.units + kTileColumns - 1) / kTileColumns),
                  static_cast<unsigned>((on_gpu.rows + kTileRows - 1) / kTileRows));
  FirstLayerKernel<<<grid, kThreads, 0, context.stream>>>(first, on_gpu.x, on_gpu.rows);
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
  RestKernel<<<BlocksOfRest(context, first), kThreads, 0, context.stream>>>(on_gpu);
  LOCKSTEP_CUDA_CHECK_LAUNCH(context);
}

}  // namespace lockstep::cuda
