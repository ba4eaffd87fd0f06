// SPDX-License-Identifier: Apache-2.0
// Convolution nets with the samples in the vector's lanes: images lie as [blocks of 16 samples][row][column]
// [channel][16], so that 1, 6 or 20 channels waste no lane. Compiled once for each instruction set. The order of a sum
// does not depend on the set; whether a product is rounded before it is added does.
//
// Every kernel does one block. The lanes behind the last sample hold zeros in samples and gradients, and whatever
// zeros become in between.
#pragma once

#include <cstdint>

#include "worker/device/cpu/kernels.h"

namespace lockstep {

// Samples of a block.
inline constexpr int64_t kLanes = 16;

// Index 0 is the height. Pads may be negative: then the image begins later.
struct LaneConv {
  int64_t channels = 0, filters = 0;
  int64_t in[2] = {0, 0};
  int64_t out[2] = {0, 0};
  int64_t size[2] = {1, 1};
  int64_t stride[2] = {1, 1};
  int64_t dilation[2] = {1, 1};
  int64_t pad[2] = {0, 0};
  // Output (i, j) is written at row out_begin[0] + i * out_step[0] of an image out_width wide, and so on.
  int64_t out_begin[2] = {0, 0};
  int64_t out_step[2] = {1, 1};
  int64_t out_width = 0;
  // Of conv_kernel alone: dy is turned (LaneKernels::turn).
  bool turned = false;
};

// Element (f, c, p, q) of a kernel lies at f * filter + c * channel + p * row + q * column.
struct LaneKernelStrides {
  int64_t filter = 0, channel = 0, row = 0, column = 0;
};

// Where a convolution's outputs go through before they are stored.
struct LaneEpilogue {
  // [filters] or null.
  const float* bias = nullptr;
  bool relu = false;
  // Not null: it lies as the output does, whose elements are multiplied by relu's gradient there.
  const float* gate = nullptr;
};

// Tiles [first, first + count) of a row of tiles: tile (i, j) has the outputs in rows 2 i and 2 i + 1 and columns 2 j
// and 2 j + 1, as far as there are such.
struct LaneTiles {
  int64_t row = 0;
  int64_t first = 0;
  int64_t count = 0;
};
// What a tile of 4 x 4 inputs, or of a kernel, becomes.
inline constexpr int64_t kWinogradPlaces = 16;

struct LanePool {
  int64_t channels = 0;
  int64_t in[2] = {0, 0};
  int64_t out[2] = {0, 0};
  int64_t size[2] = {1, 1};
  int64_t stride[2] = {1, 1};
  int64_t pad[2] = {0, 0};
};

LOCKSTEP_INLINE int64_t PaddedFilters(int64_t filters) { return (filters + kLanes - 1) / kLanes * kLanes; }
// True: a kernel's gradient is summed with the samples in the lanes, since so few filters would waste them.
LOCKSTEP_INLINE bool SamplesStayInLanes(int64_t filters) { return filters <= 10; }
// True: a kernel's gradient takes the places of a row of the window one by one, each with the outputs where it lies
// inside the image. Few channels would leave tiles half empty: then all places of a row are taken at once, from rows
// with the zeros around the image.
LOCKSTEP_INLINE bool TakesPlacesAlone(const LaneConv& c) { return c.dilation[1] != 1 || c.channels >= 8; }
// Columns that the windows cover.
LOCKSTEP_INLINE int64_t PaddedWidth(const LaneConv& c) {
  return (c.out[1] - 1) * c.stride[1] + (c.size[1] - 1) * c.dilation[1] + 1;
}
// Rows that a window covers.
LOCKSTEP_INLINE int64_t WindowRows(const LaneConv& c) { return (c.size[0] - 1) * c.dilation[0] + 1; }
// Floats that conv_kernel works in.
LOCKSTEP_INLINE int64_t KernelScratch(const LaneConv& c) {
  const int64_t taps = c.size[0] * c.size[1] * c.channels;
  return c.out[1] * kLanes * PaddedFilters(c.filters) +
         (SamplesStayInLanes(c.filters) ? taps * c.filters * kLanes : 0) +
         WindowRows(c) * (PaddedWidth(c) > c.in[1] ? PaddedWidth(c) : c.in[1]) * c.channels * kLanes;
}

struct LaneKernels {
  // x: [samples][channel][place], y: one block, and back. samples <= 16.
  void (*to_lanes)(const float* x, int64_t samples, int64_t channels, int64_t places, float* y);
  void (*from_lanes)(const float* x, int64_t samples, int64_t channels, int64_t places, float* y);

  // packed: as many floats as the kernel, in the order in which conv reads them.
  void (*pack)(const LaneConv& conv, const float* kernel, const LaneKernelStrides& strides, float* packed);
  // Each sum begins with the bias and is in the order p, q, channel.
  void (*conv)(const LaneConv& conv, const float* x, const float* packed, const LaneEpilogue& epilogue, float* y);
  // dy: [outputs][filters][16] to [outputs][16][PaddedFilters]; adds its sums to dbias, where not null.
  void (*turn)(const float* dy, int64_t outputs, int64_t filters, int64_t samples, float* to, float* dbias);
  // Adds to dkernel [p][q][channel][PaddedFilters] and dbias [PaddedFilters], where not null. scratch: KernelScratch
  // floats.
  void (*conv_kernel)(const LaneConv& conv, const float* x, const float* dy, int64_t samples, float* dkernel,
                      float* dbias, float* scratch);

  // Winograd's way of a window of 3 x 3, stride 1 (cpu_winograd.cc). v: [kWinogradPlaces][count][channels][16]; patch:
  // as many floats as one tile's inputs.
  void (*winograd_input)(const LaneConv& conv, const LaneTiles& tiles, const float* x, float* patch, float* v);
  // From [kWinogradPlaces][count][filters][16] to the outputs.
  void (*winograd_output)(const LaneConv& conv, const LaneTiles& tiles, const float* m, const LaneEpilogue& epilogue,
                          float* y);
  // From the turned gradient of the tiles' two rows of outputs, or of the last one alone, to
  // [kWinogradPlaces][count][16][PaddedFilters].
  void (*winograd_gradient)(const LaneConv& conv, const LaneTiles& tiles, const float* rows, float* m);

  // sums: [channels] adds the sum of dy of each channel.
  void (*sum_places)(const float* dy, int64_t places, int64_t channels, float* sums);

  // See Device::PoolForward and PoolBackward. relu: dx is multiplied by relu's gradient at x.
  void (*max_pool_forward)(const LanePool& pool, const float* x, float* y);
  void (*max_pool_backward)(const LanePool& pool, const float* x, const float* y, const float* dy, bool relu,
                            float* dx);
  void (*average_pool_forward)(const LanePool& pool, const float* x, float* y);
  void (*average_pool_backward)(const LanePool& pool, const float* dy, float* dx);

  // sums: [2, channels] adds {sum of dy, sum of dy x} of each channel over places and then samples.
  void (*product_sums)(const float* x, const float* dy, int64_t places, int64_t channels, int64_t samples,
                       double* sums);
  // y = x scale + shift: [channels] each.
  void (*scale_shift)(const float* x, int64_t places, int64_t channels, const float* scale, const float* shift,
                      float* y);
  // dx = a dy + b x + c: [channels] each, and zero behind the last sample.
  void (*norm_backward)(const float* x, const float* dy, int64_t places, int64_t channels, int64_t samples,
                        const float* a, const float* b, const float* c, float* dx);
};

// The same with products of bfloat16, whose sums are float. Where that is said, floats are words of two bfloat16, the
// first in the lower half.
struct LanePairKernels {
  // x: one block, words: [place][(channels + 1) / 2][16], two channels in a word.
  void (*pair_channels)(const float* x, int64_t places, int64_t channels, float* words);
  // As LaneKernels: pack takes a kernel of floats and its channels, conv the pairs of channels; x and
  // packed are words.
  void (*pack)(const LaneConv& conv, const float* kernel, const LaneKernelStrides& strides, float* packed);
  void (*conv)(const LaneConv& conv, const float* x, const float* packed, const LaneEpilogue& epilogue, float* y);
  // x and dy are floats, and dbias is of what they were before they were rounded.
  void (*conv_kernel)(const LaneConv& conv, const float* x, const float* dy, int64_t samples, float* dkernel,
                      float* dbias, float* scratch);
};

namespace kernels_base {
extern const LaneKernels kLaneKernels;
}
namespace kernels_avx2 {
extern const LaneKernels kLaneKernels;
}
namespace kernels_avx512 {
extern const LaneKernels kLaneKernels;
}
namespace kernels_avx512_bf16 {
extern const LanePairKernels kLanePairKernels;
}

}  // namespace lockstep
