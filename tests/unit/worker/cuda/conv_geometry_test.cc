// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/conv_geometry.h"

#include <array>

#include "gtest/gtest.h"

namespace lockstep::cuda {
namespace {

using Pair = std::array<int64_t, 2>;

ConvGeometry Geometry(const WindowArgs& args, int64_t height, int64_t width) {
  const auto out = [&](int64_t in, size_t axis) {
    const int64_t reach = (args.size[axis] - 1) * args.dilation[axis] + 1;
    return (in + args.pad_begin[axis] + args.pad_end[axis] - reach) / args.stride[axis] + 1;
  };
  return ConvGeometryOf(args, {2, 3, height, width}, {2, 5, out(height, 0), out(width, 1)});
}

TEST(ConvGeometryTest, EvenPaddingIsToldAsItIs) {
  const ConvGeometry g = Geometry({.size = {3, 5}, .pad_begin = {1, 2}, .pad_end = {1, 2}}, 8, 9);
  EXPECT_FALSE(g.copied);
  EXPECT_EQ(g.pad, (Pair{1, 2}));
  EXPECT_EQ(g.size, (Pair{8, 9}));
  EXPECT_EQ(g.rows, 2);
  EXPECT_EQ(g.channels, 3);
  EXPECT_EQ(g.filters, 5);
}

TEST(ConvGeometryTest, UnevenPaddingTakesACopy) {
  // What "same" means for a window of 3 and a stride of 2 on an even size.
  const ConvGeometry g = Geometry({.size = {3, 3}, .stride = {2, 2}, .pad_end = {1, 1}}, 6, 4);
  EXPECT_TRUE(g.copied);
  EXPECT_EQ(g.pad, (Pair{0, 0}));
  EXPECT_EQ(g.size, (Pair{7, 5}));
  EXPECT_EQ(g.begin, (Pair{0, 0}));
  const ConvGeometry both = Geometry({.size = {1, 1}, .pad_begin = {1, 2}, .pad_end = {0, 1}}, 3, 4);
  EXPECT_TRUE(both.copied);
  EXPECT_EQ(both.size, (Pair{4, 7}));
  EXPECT_EQ(both.begin, (Pair{1, 2}));
}

TEST(ConvGeometryTest, PaddingThatNoWindowReachesDoesNotCount) {
  // The last window ends at the image's edge either way: with or without a column behind it.
  const ConvGeometry g = Geometry({.size = {3, 3}, .stride = {2, 2}, .pad_begin = {1, 1}, .pad_end = {0, 0}}, 6, 6);
  EXPECT_FALSE(g.copied);
  EXPECT_EQ(g.pad, (Pair{1, 1}));
  // One axis is enough for a copy.
  EXPECT_TRUE(Geometry({.size = {3, 2}, .pad_begin = {1, 1}, .pad_end = {1, 0}}, 6, 6).copied);
}

}  // namespace
}  // namespace lockstep::cuda
