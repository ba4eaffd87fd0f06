// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/conv_geometry.h"

#include <algorithm>

namespace lockstep::cuda {

namespace {

// The outputs are the same when the zeros before the image are put behind it too: what is behind is not looked at, or
// is as much as it should be.
bool SamePadding(const WindowArgs& args, int64_t in, int64_t out, size_t axis) {
  const int64_t reach = (args.size[axis] - 1) * args.dilation[axis] + 1;
  const int64_t last = in + 2 * args.pad_begin[axis] - reach;
  return last >= 0 && last / args.stride[axis] + 1 == out;
}

// Channels in sixteen bytes of a factor, where tensor cores read them; 1: it does not matter.
int64_t ChannelRun(ProductPrecision precision) {
  if (IsRounded(precision)) return 8;
  return precision == ProductPrecision::kTf32 ? 4 : 1;
}

// Copies are made sixteen bytes at a time.
constexpr int64_t kLeastRun = 4;

int64_t RoundUp(int64_t n, int64_t run) { return (n + run - 1) / run * run; }

}  // namespace

ConvGeometry ConvGeometryOf(const WindowArgs& args, const Shape& x, const Shape& y, Layout layout) {
  ConvGeometry g{.rows = x[0], .channels = x[1], .filters = y[1], .in = {x[2], x[3]}, .out = {y[2], y[3]}};
  g.window = args.size;
  g.library_channels = g.channels;
  if (layout == Layout::kImages) {
    g.library_channels = RoundUp(g.channels, std::max(ChannelRun(args.precision), kLeastRun));
  }
  g.size = g.in;
  const bool framed = !SamePadding(args, x[2], y[2], 0) || !SamePadding(args, x[3], y[3], 1);
  g.copied = framed || g.library_channels != g.channels;
  if (!framed) {
    g.pad = args.pad_begin;
    return g;
  }
  g.begin = args.pad_begin;
  for (size_t axis = 0; axis < 2; ++axis) g.size[axis] += args.pad_begin[axis] + args.pad_end[axis];
  return g;
}

bool IsRounded(ProductPrecision precision) {
  return precision == ProductPrecision::kBf16 || precision == ProductPrecision::kFloat16;
}

Layout ImageLayout(const WindowArgs& args, const Shape& x, const Shape& kernel, DType type) {
  const int64_t run = ChannelRun(args.precision);
  if (type != DType::kF32 || args.groups != 1 || run == 1 || kernel[0] % run != 0) return Layout::kRowMajor;
  const bool fits = IsRounded(args.precision) || x[1] % run == 0 || x[1] < run;
  return fits ? Layout::kImages : Layout::kRowMajor;
}

}  // namespace lockstep::cuda
