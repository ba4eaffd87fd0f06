// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/conv_geometry.h"

namespace lockstep::cuda {

namespace {

// The outputs are the same when the zeros before the image are put behind it too: what is behind is not looked at, or
// is as much as it should be.
bool SamePadding(const WindowArgs& args, int64_t in, int64_t out, size_t axis) {
  const int64_t reach = (args.size[axis] - 1) * args.dilation[axis] + 1;
  const int64_t last = in + 2 * args.pad_begin[axis] - reach;
  return last >= 0 && last / args.stride[axis] + 1 == out;
}

}  // namespace

ConvGeometry ConvGeometryOf(const WindowArgs& args, const Shape& x, const Shape& y) {
  ConvGeometry g{.rows = x[0], .channels = x[1], .filters = y[1], .in = {x[2], x[3]}, .out = {y[2], y[3]}};
  g.size = g.in;
  g.copied = !SamePadding(args, x[2], y[2], 0) || !SamePadding(args, x[3], y[3], 1);
  if (!g.copied) {
    g.pad = args.pad_begin;
    return g;
  }
  g.begin = args.pad_begin;
  for (size_t axis = 0; axis < 2; ++axis) g.size[axis] += args.pad_begin[axis] + args.pad_end[axis];
  return g;
}

}  // namespace lockstep::cuda
