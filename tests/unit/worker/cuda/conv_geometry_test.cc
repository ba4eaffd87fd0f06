// SPDX-License-Identifier: Apache-2.0
#include "worker/device/cuda/conv_geometry.h"

#include <array>

#include "gtest/gtest.h"

namespace lockstep::cuda {
namespace {

using Pair = std::array<int64_t, 2>;

ConvGeometry Geometry(const WindowArgs& args, int64_t height, int64_t width, Layout layout = Layout::kRowMajor) {
  const auto out = [&](int64_t in, size_t axis) {
    const int64_t reach = (args.size[axis] - 1) * args.dilation[axis] + 1;
    return (in + args.pad_begin[axis] + args.pad_end[axis] - reach) / args.stride[axis] + 1;
  };
  return ConvGeometryOf(args, {2, 3, height, width}, {2, 5, out(height, 0), out(width, 1)}, layout);
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

TEST(ConvGeometryTest, ChannelsLastComeInSixteenBytes) {
  const auto channels = [](ProductPrecision precision) {
    const ConvGeometry g = Geometry({.size = {3, 3}, .precision = precision}, 6, 6, Layout::kImages);
    EXPECT_TRUE(g.copied);
    EXPECT_EQ(g.channels, 3);
    EXPECT_EQ(g.size, (Pair{6, 6}));
    EXPECT_EQ(g.library_images(), 2 * 36 * g.library_channels);
    EXPECT_EQ(g.library_kernel(), 5 * 9 * g.library_channels);
    return g.library_channels;
  };
  EXPECT_EQ(channels(ProductPrecision::kBf16), 8);
  EXPECT_EQ(channels(ProductPrecision::kFloat16), 8);
  EXPECT_EQ(channels(ProductPrecision::kTf32), 4);
  EXPECT_EQ(channels(ProductPrecision::kFloat), 4);
  EXPECT_EQ(Geometry({.size = {3, 3}, .precision = ProductPrecision::kBf16}, 6, 6).library_channels, 3);
}

TEST(ConvGeometryTest, ChannelsAreLastWhereTensorCoresTakeThem) {
  const auto layout = [](ProductPrecision precision, int64_t channels, int64_t filters) {
    return ImageLayout({.size = {3, 3}, .precision = precision}, {16, channels, 9, 9}, {filters, channels, 3, 3},
                       DType::kF32);
  };
  EXPECT_EQ(layout(ProductPrecision::kBf16, 64, 64), Layout::kImages);
  EXPECT_EQ(layout(ProductPrecision::kFloat16, 20, 8), Layout::kImages);
  EXPECT_EQ(layout(ProductPrecision::kBf16, 3, 64), Layout::kImages);
  EXPECT_EQ(layout(ProductPrecision::kBf16, 64, 6), Layout::kRowMajor);
  EXPECT_EQ(layout(ProductPrecision::kTf32, 3, 12), Layout::kImages);
  EXPECT_EQ(layout(ProductPrecision::kTf32, 8, 12), Layout::kImages);
  EXPECT_EQ(layout(ProductPrecision::kTf32, 6, 16), Layout::kRowMajor);
  EXPECT_EQ(layout(ProductPrecision::kFloat, 64, 64), Layout::kRowMajor);
  const Shape x{16, 8, 9, 9}, kernel{8, 8, 3, 3};
  const WindowArgs half{.size = {3, 3}, .precision = ProductPrecision::kBf16};
  EXPECT_EQ(ImageLayout(half, x, kernel, DType::kF64), Layout::kRowMajor);
  WindowArgs groups = half;
  groups.groups = 2;
  EXPECT_EQ(ImageLayout(groups, x, kernel, DType::kF32), Layout::kRowMajor);
}

}  // namespace
}  // namespace lockstep::cuda
