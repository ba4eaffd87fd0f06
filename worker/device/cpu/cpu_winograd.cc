// SPDX-License-Identifier: Apache-2.0
// Convolutions of windows of 3 x 3 by Winograd's F(2x2, 3x3) (Lavin and Gray 2016, "Fast Algorithms for Convolutional
// Neural Networks"): 2 x 2 outputs of a channel and a filter take 16 multiplications instead of 36.
//   y  = A^T ((G g G^T) (B^T x B)) A         for tiles of 4 x 4 inputs x, the product place by place
//   dg = G^T ((B^T x B) (A dy A^T)) G
// summed over channels, or over samples and tiles. For each of the 16 places that is a convolution with a window of one
// place, which the other kernels do. B and A have nothing but 0, 1 and -1.
#include <algorithm>

#include "worker/device/cpu/cpu_lanes.h"
#include "worker/device/cpu/lane_blocks.h"

namespace lockstep::cpu {

namespace {

// As measured. With fewer channels the additions, and the way of the tiles through the caches, cost more than the
// multiplications that they save: 16 to 16 and to 24 channels were slower, 24 to 48 as fast.
constexpr int64_t kLeastChannels = 32;
constexpr int64_t kLeastFilters = 32;
// Tiles at the edge are done whole, where a window's places outside of a small image need not be: 4 x 4 was slower.
constexpr int64_t kLeastOutputs = 8;
// Floats of tiles that are worked on at a time: they stay in the second-level cache.
constexpr int64_t kFloatsAtOnce = int64_t{128} << 10;

// A kernel of [3][3] to [4][4]: G g G^T.
void TransformKernel(const float* g, float* u, int64_t u_step) {
  float rows[4][3];
  const auto three = [](float a, float b, float c, float* out, int64_t step) {
    out[0] = a;
    out[step] = 0.5F * (a + b + c);
    out[2 * step] = 0.5F * (a - b + c);
    out[3 * step] = c;
  };
  for (int j = 0; j < 3; ++j) three(g[j], g[3 + j], g[6 + j], &rows[0][j], 3);
  for (int i = 0; i < 4; ++i) three(rows[i][0], rows[i][1], rows[i][2], u + 4 * i * u_step, u_step);
}

// The other way round, of gradients: G^T u G.
void TransformGradient(const float* u, int64_t u_step, float* g) {
  float rows[3][4];
  const auto four = [](float a, float b, float c, float d, float* out, int64_t step) {
    out[0] = a + 0.5F * (b + c);
    out[step] = 0.5F * (b - c);
    out[2 * step] = 0.5F * (b + c) + d;
  };
  for (int j = 0; j < 4; ++j) {
    four(u[j * u_step], u[(4 + j) * u_step], u[(8 + j) * u_step], u[(12 + j) * u_step], &rows[0][j], 4);
  }
  for (int i = 0; i < 3; ++i) four(rows[i][0], rows[i][1], rows[i][2], rows[i][3], g + 3 * i, 1);
}

int64_t TilesAtOnce(const LaneConv& conv) {
  const int64_t fit = kFloatsAtOnce / (kWinogradPlaces * kLanes * (conv.channels + conv.filters));
  return std::min(std::max<int64_t>(fit, 4), (conv.out[1] + 1) / 2);
}

// One place of so many tiles.
LaneConv PlaceOf(const LaneConv& conv, int64_t tiles) {
  return {.channels = conv.channels, .filters = conv.filters, .in = {1, tiles}, .out = {1, tiles}, .out_width = tiles};
}

// visit(tiles) for all tiles of an image.
template <typename Visit>
void ForTiles(const LaneConv& conv, Visit visit) {
  const int64_t most = TilesAtOnce(conv), wide = (conv.out[1] + 1) / 2;
  for (int64_t row = 0; row < (conv.out[0] + 1) / 2; ++row) {
    for (int64_t first = 0; first < wide; first += most) visit(LaneTiles{row, first, std::min(most, wide - first)});
  }
}

// Floats of the tiles' inputs and outputs, of one tile's inputs, and of two rows of a turned gradient.
struct TileMemory {
  explicit TileMemory(const LaneConv& conv)
      : inputs(kWinogradPlaces * TilesAtOnce(conv) * conv.channels * kLanes),
        outputs(kWinogradPlaces * TilesAtOnce(conv) * PaddedFilters(conv.filters) * kLanes),
        patch(kWinogradPlaces * conv.channels * kLanes),
        turned(2 * conv.out[1] * PaddedFilters(conv.filters) * kLanes) {}
  int64_t all() const { return inputs + outputs + patch + turned; }
  int64_t inputs, outputs, patch, turned;
};

// One image's rows as factors: where they lie, or rounded, each just before it is used, so that it is still in the
// cache.
class FactorRows {
 public:
  // `rounded`: room for all rows; null: nothing is rounded.
  FactorRows(const LaneConv& conv, const CpuKernels<float>& kernels, const float* x, float* rounded)
      : conv_(conv), kernels_(kernels), x_(x), rounded_(rounded) {}

  // The image, of which the inputs of this row of tiles may be read.
  const float* For(const LaneTiles& tiles) {
    if (rounded_ == nullptr) return x_;
    const int64_t row = conv_.in[1] * conv_.channels * kLanes;
    const int64_t end = std::min(2 * tiles.row - conv_.pad[0] + 4, conv_.in[0]);
    if (end > done_) kernels_.round_bf16(x_ + done_ * row, (end - done_) * row, rounded_ + done_ * row);
    done_ = std::max(done_, end);
    return rounded_;
  }

 private:
  const LaneConv& conv_;
  const CpuKernels<float>& kernels_;
  const float* x_;
  float* rounded_;
  int64_t done_ = 0;
};

}  // namespace

bool CpuLanes::TakesWinograd(const LaneConv& conv, Factors factors) {
  const auto is = [](const int64_t(&both)[2], int64_t value) { return both[0] == value && both[1] == value; };
  return factors != Factors::kPairs && is(conv.size, 3) && is(conv.stride, 1) && is(conv.dilation, 1) &&
         is(conv.out_begin, 0) && is(conv.out_step, 1) && conv.channels >= kLeastChannels &&
         conv.filters >= kLeastFilters && std::min(conv.out[0], conv.out[1]) >= kLeastOutputs;
}

const float* CpuLanes::PackWinograd(const LaneConv& conv, Factors factors, const float* kernel,
                                    const LaneKernelStrides& strides) {
  const int64_t pairs = conv.filters * conv.channels, taps = 9;
  float* const packed = packed_.Floats((2 * kWinogradPlaces + taps) * pairs);
  float* const u = packed + kWinogradPlaces * pairs;
  float* const g = u + kWinogradPlaces * pairs;
  float* to = g;
  for (int64_t f = 0; f < conv.filters; ++f) {
    for (int64_t c = 0; c < conv.channels; ++c) {
      const float* from = kernel + f * strides.filter + c * strides.channel;
      for (int64_t i = 0; i < taps; ++i) *to++ = from[i / 3 * strides.row + i % 3 * strides.column];
    }
  }
  if (factors == Factors::kRounded) f32_.round_bf16(g, taps * pairs, g);
  for (int64_t i = 0; i < pairs; ++i) TransformKernel(g + i * taps, u + i, pairs);
  const LaneKernelStrides dense{.filter = conv.channels, .channel = 1, .row = 1, .column = 1};
  for (int64_t place = 0; place < kWinogradPlaces; ++place) {
    k_.pack(PlaceOf(conv, 1), u + place * pairs, dense, packed + place * pairs);
  }
  return packed;
}

void CpuLanes::ConvolveWinograd(const LaneConv& conv, const float* packed, const float* x, float* rounded,
                                const LaneEpilogue& epilogue, float* memory, float* y) {
  FactorRows rows(conv, f32_, x, rounded);
  const TileMemory sizes(conv);
  float* const v = memory;
  float* const m = v + sizes.inputs;
  ForTiles(conv, [&](const LaneTiles& tiles) {
    k_.winograd_input(conv, tiles, rows.For(tiles), m + sizes.outputs, v);
    const LaneConv one = PlaceOf(conv, tiles.count);
    for (int64_t place = 0; place < kWinogradPlaces; ++place) {
      k_.conv(one, v + place * tiles.count * conv.channels * kLanes, packed + place * conv.filters * conv.channels, {},
              m + place * tiles.count * conv.filters * kLanes);
    }
    k_.winograd_output(conv, tiles, m, epilogue, y);
  });
}

int64_t CpuLanes::WinogradFloats(const LaneConv& conv) {
  return TileMemory(conv).all() + PaddedFilters(KernelScratch(PlaceOf(conv, TilesAtOnce(conv))));
}

void CpuLanes::AddWinograd(const LaneConv& conv, const float* x, float* rounded, const float* dy, int64_t samples,
                           float* sums, float* dbias, float* memory) {
  FactorRows rows(conv, f32_, x, rounded);
  const TileMemory sizes(conv);
  float* const v = memory;
  float* const m = v + sizes.inputs;
  float* const patch = m + sizes.outputs;
  float* const turned = patch + sizes.patch;
  const int64_t padded = PaddedFilters(conv.filters), rows_floats = 2 * conv.out[1] * conv.filters * kLanes;
  ForTiles(conv, [&](const LaneTiles& tiles) {
    if (tiles.first == 0) {
      const int64_t outputs = std::min<int64_t>(2, conv.out[0] - 2 * tiles.row) * conv.out[1];
      k_.turn(dy + tiles.row * rows_floats, outputs, conv.filters, samples, turned, dbias);
      if (rounded != nullptr) f32_.round_bf16(turned, outputs * kLanes * padded, turned);
    }
    k_.winograd_input(conv, tiles, rows.For(tiles), patch, v);
    k_.winograd_gradient(conv, tiles, turned, m);
    LaneConv one = PlaceOf(conv, tiles.count);
    one.turned = true;
    for (int64_t place = 0; place < kWinogradPlaces; ++place) {
      k_.conv_kernel(one, v + place * tiles.count * conv.channels * kLanes, m + place * tiles.count * padded * kLanes,
                     samples, sums + place * conv.channels * padded, nullptr, turned + sizes.turned);
    }
  });
}

void CpuLanes::FinishWinograd(const LaneConv& conv, const float* sums, float* dkernel) {
  const int64_t padded = PaddedFilters(conv.filters);
  for (int64_t f = 0; f < conv.filters; ++f) {
    for (int64_t c = 0; c < conv.channels; ++c) {
      TransformGradient(sums + c * padded + f, conv.channels * padded, dkernel + (f * conv.channels + c) * 9);
    }
  }
}

}  // namespace lockstep::cpu
