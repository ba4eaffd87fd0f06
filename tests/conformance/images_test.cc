// SPDX-License-Identifier: Apache-2.0
// What a device does to images in its own layout, against the same in double and row-major.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/conformance/arrays.h"
#include "tests/conformance/layer_bench.h"
#include "tests/conformance/tolerance.h"
#include "worker/device/device.h"

namespace lockstep::conformance {
namespace {

// A square convolution or pooling.
struct Case {
  int64_t rows, channels, filters, height, width, size;
  int64_t stride = 1, dilation = 1, pad = 0;

  WindowArgs args() const {
    return {.size = {size, size},
            .stride = {stride, stride},
            .dilation = {dilation, dilation},
            .pad_begin = {pad, pad},
            .pad_end = {pad, pad}};
  }
  int64_t Out(int64_t length) const { return (length + 2 * pad - dilation * (size - 1) - 1) / stride + 1; }
  Shape x() const { return {rows, channels, height, width}; }
  Shape kernel() const { return {filters, channels, size, size}; }
  Shape y(int64_t planes) const { return {rows, planes, Out(height), Out(width)}; }
  std::string name() const {
    return absl::StrCat("rows ", rows, ", ", channels, " to ", filters, " channels, ", height, "x", width, ", window ",
                        size, ", stride ", stride, ", dilation ", dilation, ", pad ", pad);
  }
};

// Channels and filters around what a vector, a tile and a half of them hold; windows that reach over every edge.
const Case kCases[] = {
    {16, 1, 6, 9, 8, 5, 1, 1, 2},
    {20, 3, 32, 7, 6, 3, 1, 1, 1},
    {33, 6, 16, 8, 8, 5},
    {8, 16, 20, 5, 7, 3, 1, 1, 1},
    {17, 20, 3, 6, 5, 3, 2, 1, 1},
    {16, 33, 40, 4, 4, 3, 1, 1, 1},
    {9, 5, 7, 9, 9, 3, 1, 2, 2},
    {16, 4, 9, 10, 11, 3, 3, 1, 0},
    {16, 2, 17, 5, 5, 1, 2, 1, 0},
    {12, 48, 64, 3, 3, 3, 1, 1, 1},
    {16, 1, 1, 3, 20, 2, 1, 1, 1},
    {1, 6, 10, 12, 4, 4, 2, 1, 1},
    {16, 2, 5, 5, 5, 2, 3, 1, 1},
    {4, 8, 16, 7, 6, 3, 1, 2, 2},
    {3, 16, 8, 9, 8, 3, 2, 1, 1},
    {2, 8, 8, 10, 7, 3, 3, 1, 0},
    // Enough of all for the CPU's other way of convolving; rows and columns of half a tile, and more tiles than are
    // done at a time.
    {17, 32, 33, 9, 8, 3, 1, 1, 1},
    {8, 34, 32, 8, 8, 3, 1, 1, 1},
    {8, 32, 32, 10, 11, 3, 1, 1, 0},
    {9, 32, 32, 8, 8, 3, 1, 1, 2},
    {8, 32, 32, 8, 19, 3, 1, 1, 1},
};

class ImagesConformance : public ::testing::TestWithParam<size_t> {
 protected:
  ImagesConformance() : device_(Devices()[GetParam()].make()), plain_(MakeCpuDevice(1)), arrays_(device_.get()) {}

  // Row-major in double, and the same numbers in the device's layout.
  struct Pair {
    Tensor plain, images;
  };
  Pair Random(const Shape& shape, uint64_t stream) {
    Pair pair{arrays_.Random(shape, DType::kF64, stream), Images(shape)};
    device_->Relayout(arrays_.Random(shape, DType::kF32, stream), pair.images);
    return pair;
  }
  Pair Zeros(const Shape& shape) { return {arrays_.Zeros(shape, DType::kF64), Images(shape)}; }
  Tensor Images(const Shape& shape) {
    Tensor t = arrays_.Zeros({device_->LayoutElements(shape, Layout::kImages)}, DType::kF32);
    t.shape = shape;
    t.layout = Layout::kImages;
    return t;
  }
  static void RoundToBf16(const Tensor& t) {
    for (int64_t i = 0; i < t.elements(); ++i) {
      const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(Arrays::Get(t, i)));
      Arrays::Set(t, i, std::bit_cast<float>((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000));
    }
  }
  // Relative to a sum of so many terms, each at most about 1 and off by `error` by itself.
  void Check(const Tensor& plain, const Tensor& images, int64_t terms, const std::string& what, double error = 0) {
    Tensor found = images;
    if (images.layout != Layout::kRowMajor) {
      found = arrays_.Zeros(images.shape, DType::kF32);
      device_->Relayout(images, found);
    }
    const double tolerance = (Tolerance(DType::kF32, terms) * 1.2 + error) * static_cast<double>(terms);
    for (int64_t i = 0; i < plain.elements(); ++i) {
      ASSERT_NEAR(Arrays::Get(found, i), Arrays::Get(plain, i), tolerance) << what << " at " << i;
    }
  }
  // The lanes that belong to no sample.
  void CheckUnusedAreZero(const Tensor& images, const std::string& what) {
    const int64_t all = device_->LayoutElements(images.shape, Layout::kImages);
    double sum = 0, kept = 0;
    for (int64_t i = 0; i < all; ++i) sum += images.as<float>()[i] == 0 ? 0 : 1;
    const Tensor plain = arrays_.Zeros(images.shape, DType::kF32);
    device_->Relayout(images, plain);
    for (int64_t i = 0; i < plain.elements(); ++i) kept += plain.as<float>()[i] == 0 ? 0 : 1;
    EXPECT_EQ(sum, kept) << what;
  }

  std::unique_ptr<Device> device_;
  // Computes in double, in memory that is the host's.
  std::unique_ptr<Device> plain_;
  Arrays arrays_;
};

TEST_P(ImagesConformance, LayoutsHoldTheSameNumbers) {
  for (const Shape& shape : {Shape{16, 3, 5, 7}, Shape{5, 1, 1, 1}, Shape{33, 20, 4, 4}, Shape{17, 10}}) {
    const Tensor x = arrays_.Random(shape, DType::kF32, 1), back = arrays_.Zeros(shape, DType::kF32);
    const Tensor images = Images(shape);
    device_->Relayout(x, images);
    device_->Relayout(images, back);
    for (int64_t i = 0; i < x.elements(); ++i) ASSERT_EQ(x.as<float>()[i], back.as<float>()[i]) << shape.ToString();
    CheckUnusedAreZero(images, shape.ToString());
  }
}

TEST_P(ImagesConformance, ConvolutionsAgree) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name());
    const Pair x = Random(c.x(), 2), dy = Random(c.y(c.filters), 3), y = Zeros(c.y(c.filters)), dx = Zeros(c.x());
    const Tensor kernel64 = arrays_.Random(c.kernel(), DType::kF64, 4),
                 bias64 = arrays_.Random({c.filters}, DType::kF64, 5);
    const Tensor kernel32 = arrays_.Random(c.kernel(), DType::kF32, 4),
                 bias32 = arrays_.Random({c.filters}, DType::kF32, 5);
    const int64_t window = c.size * c.size;
    for (const ActivationArgs& activation : {ActivationArgs{}, {Activation::kRelu}, {Activation::kTanh}}) {
      plain_->ConvForward(c.args(), x.plain, kernel64, bias64, activation, y.plain);
      device_->ConvForward(c.args(), x.images, kernel32, bias32, activation, y.images);
      Check(y.plain, y.images, window * c.channels + 1, "y");
    }
    for (const ActivationArgs& before : {ActivationArgs{}, {Activation::kRelu}, {Activation::kLeakyRelu, 0.25}}) {
      plain_->ConvBackwardInput(c.args(), dy.plain, kernel64, before, x.plain, dx.plain);
      device_->ConvBackwardInput(c.args(), dy.images, kernel32, before, x.images, dx.images);
      Check(dx.plain, dx.images, window * c.filters, "dx");
      CheckUnusedAreZero(dx.images, "dx");
    }
    const Tensor dkernel64 = arrays_.Zeros(c.kernel(), DType::kF64), dbias64 = arrays_.Zeros({c.filters}, DType::kF64);
    const Tensor dkernel32 = arrays_.Zeros(c.kernel(), DType::kF32), dbias32 = arrays_.Zeros({c.filters}, DType::kF32);
    plain_->ConvBackwardKernel(c.args(), x.plain, dy.plain, dkernel64, dbias64);
    device_->ConvBackwardKernel(c.args(), x.images, dy.images, dkernel32, dbias32);
    const int64_t places = c.rows * c.Out(c.height) * c.Out(c.width);
    Check(dkernel64, dkernel32, places, "dkernel");
    Check(dbias64, dbias32, places, "dbias");
  }
}

// The factors are rounded, their products and sums are not: in double these are the same of rounded numbers.
TEST_P(ImagesConformance, ConvolutionsOfBf16Agree) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name());
    WindowArgs args = c.args(), rounds = c.args();
    rounds.precision = ProductPrecision::kBf16;
    const Pair x = Random(c.x(), 2), dy = Random(c.y(c.filters), 3), y = Zeros(c.y(c.filters)), dx = Zeros(c.x());
    const Tensor bias64 = arrays_.Random({c.filters}, DType::kF64, 5),
                 bias32 = arrays_.Random({c.filters}, DType::kF32, 5);
    const Tensor kernel64 = arrays_.Random(c.kernel(), DType::kF64, 4),
                 kernel32 = arrays_.Random(c.kernel(), DType::kF32, 4);
    const Tensor dkernel64 = arrays_.Zeros(c.kernel(), DType::kF64), dbias64 = arrays_.Zeros({c.filters}, DType::kF64);
    const Tensor dkernel32 = arrays_.Zeros(c.kernel(), DType::kF32), dbias32 = arrays_.Zeros({c.filters}, DType::kF32);
    const int64_t window = c.size * c.size, places = c.rows * c.Out(c.height) * c.Out(c.width);
    plain_->ConvBackwardKernel(args, x.plain, dy.plain, dkernel64, dbias64);
    for (const Tensor& t : {x.plain, dy.plain, kernel64}) RoundToBf16(t);
    plain_->ConvForward(args, x.plain, kernel64, bias64, {Activation::kRelu}, y.plain);
    device_->ConvForward(rounds, x.images, kernel32, bias32, {Activation::kRelu}, y.images);
    Check(y.plain, y.images, window * c.channels + 1, "y");
    plain_->ConvBackwardInput(args, dy.plain, kernel64, {Activation::kRelu}, x.plain, dx.plain);
    device_->ConvBackwardInput(rounds, dy.images, kernel32, {Activation::kRelu}, x.images, dx.images);
    Check(dx.plain, dx.images, window * c.filters, "dx");
    CheckUnusedAreZero(dx.images, "dx");
    plain_->ConvBackwardKernel(args, x.plain, dy.plain, dkernel64, {});
    device_->ConvBackwardKernel(rounds, x.images, dy.images, dkernel32, dbias32);
    Check(dkernel64, dkernel32, places, "dkernel");
    // No product.
    Check(dbias64, dbias32, places, "dbias");
  }
}

// A factor is off by at most half of its last bit (TF32 may be cut off instead of rounded: by all of it), whatever a
// device makes of a precision.
TEST_P(ImagesConformance, ConvolutionsOfRoundedFactorsAgree) {
  const std::pair<ProductPrecision, double> precisions[] = {
      {ProductPrecision::kBf16, 0x1p-9}, {ProductPrecision::kTf32, 0x1p-10}, {ProductPrecision::kFloat16, 0x1p-11}};
  for (const Case& c : kCases) {
    const Pair x = Random(c.x(), 2), dy = Random(c.y(c.filters), 3), y = Zeros(c.y(c.filters)), dx = Zeros(c.x());
    const Tensor kernel64 = arrays_.Random(c.kernel(), DType::kF64, 4),
                 kernel32 = arrays_.Random(c.kernel(), DType::kF32, 4);
    const Tensor dkernel64 = arrays_.Zeros(c.kernel(), DType::kF64), dkernel32 = arrays_.Zeros(c.kernel(), DType::kF32);
    const int64_t window = c.size * c.size, places = c.rows * c.Out(c.height) * c.Out(c.width);
    plain_->ConvForward(c.args(), x.plain, kernel64, {}, {}, y.plain);
    plain_->ConvBackwardInput(c.args(), dy.plain, kernel64, {}, {}, dx.plain);
    plain_->ConvBackwardKernel(c.args(), x.plain, dy.plain, dkernel64, {});
    for (const auto& [precision, rounding] : precisions) {
      SCOPED_TRACE(absl::StrCat(c.name(), ", precision ", static_cast<int>(precision)));
      WindowArgs args = c.args();
      args.precision = precision;
      // Of a product of two that are each at most 1.05.
      const double error = (2 * rounding + rounding * rounding) * 1.05 * 1.05;
      device_->ConvForward(args, x.images, kernel32, {}, {}, y.images);
      Check(y.plain, y.images, window * c.channels, "y", error);
      device_->ConvBackwardInput(args, dy.images, kernel32, {}, {}, dx.images);
      Check(dx.plain, dx.images, window * c.filters, "dx", error);
      device_->ConvBackwardKernel(args, x.images, dy.images, dkernel32, {});
      Check(dkernel64, dkernel32, places, "dkernel", error);
    }
  }
}

TEST_P(ImagesConformance, PoolingAgrees) {
  for (const Case& c : {Case{16, 6, 6, 8, 8, 2, 2},
                        {20, 3, 3, 9, 7, 2, 2},
                        {33, 17, 17, 7, 7, 3, 2, 1, 1},
                        {5, 2, 2, 6, 6, 3, 1, 1, 1},
                        {16, 20, 20, 4, 4, 4, 4},
                        {16, 4, 4, 5, 5, 1, 2}}) {
    SCOPED_TRACE(c.name());
    const Pair x = Random(c.x(), 6), dy = Random(c.y(c.channels), 7), y = Zeros(c.y(c.channels)), dx = Zeros(c.x());
    for (const Pooling kind : {Pooling::kMax, Pooling::kAverage}) {
      SCOPED_TRACE(kind == Pooling::kMax ? "max" : "average");
      plain_->PoolForward(kind, c.args(), x.plain, y.plain);
      device_->PoolForward(kind, c.args(), x.images, y.images);
      Check(y.plain, y.images, c.size * c.size, "y");
      for (const ActivationArgs& before : {ActivationArgs{}, {Activation::kRelu}, {Activation::kSigmoid}}) {
        plain_->PoolBackward(kind, c.args(), x.plain, y.plain, dy.plain, before, dx.plain);
        device_->PoolBackward(kind, c.args(), x.images, y.images, dy.images, before, dx.images);
        Check(dx.plain, dx.images, c.size * c.size, "dx");
        CheckUnusedAreZero(dx.images, "dx");
      }
    }
  }
}

// Of equal ones the first, as row-major says.
TEST_P(ImagesConformance, TheFirstOfTheLargestGetsTheGradient) {
  const Case c{3, 2, 2, 4, 4, 2, 2};
  const Pair y = Zeros(c.y(2)), dy = Random(c.y(2), 8), dx = Zeros(c.x());
  const Tensor flat = arrays_.Zeros(c.x(), DType::kF32), images = Images(c.x());
  for (int64_t i = 0; i < flat.elements(); ++i) Arrays::Set(flat, i, static_cast<double>(i % 3));
  device_->Relayout(flat, images);
  const Tensor plain = arrays_.Zeros(c.x(), DType::kF64);
  for (int64_t i = 0; i < flat.elements(); ++i) Arrays::Set(plain, i, static_cast<double>(i % 3));
  plain_->PoolForward(Pooling::kMax, c.args(), plain, y.plain);
  device_->PoolForward(Pooling::kMax, c.args(), images, y.images);
  plain_->PoolBackward(Pooling::kMax, c.args(), plain, y.plain, dy.plain, {}, dx.plain);
  device_->PoolBackward(Pooling::kMax, c.args(), images, y.images, dy.images, {}, dx.images);
  Check(dx.plain, dx.images, 1, "dx");
}

TEST_P(ImagesConformance, NormalisationAgrees) {
  for (const Shape& shape : {Shape{16, 6, 5, 4}, Shape{21, 17, 3, 3}, Shape{7, 20, 2, 6}}) {
    SCOPED_TRACE(shape.ToString());
    const int64_t channels = shape[1], n = shape.elements() / channels;
    const Pair x = Random(shape, 9), dy = Random(shape, 10), y = Zeros(shape), dx = Zeros(shape);
    const auto sums = [&] { return arrays_.Zeros({2, channels}, DType::kF64); };
    const Tensor sums64 = sums(), sums32 = sums(), gradient64 = sums(), gradient32 = sums();
    plain_->ChannelSums(x.plain, sums64);
    device_->ChannelSums(x.images, sums32);
    Check(sums64, sums32, n, "sums");
    const Tensor statistics = arrays_.Zeros({3, channels}, DType::kF64);
    plain_->ChannelStatistics(sums64, static_cast<double>(n), 1e-3, statistics);
    const Tensor gamma64 = arrays_.Random({channels}, DType::kF64, 11),
                 beta64 = arrays_.Random({channels}, DType::kF64, 12);
    const Tensor gamma32 = arrays_.Random({channels}, DType::kF32, 11),
                 beta32 = arrays_.Random({channels}, DType::kF32, 12);
    for (const ActivationArgs& activation : {ActivationArgs{}, {Activation::kRelu}, {Activation::kTanh}}) {
      plain_->ChannelNormForward(x.plain, statistics, gamma64, beta64, activation, y.plain);
      device_->ChannelNormForward(x.images, statistics, gamma32, beta32, activation, y.images);
      Check(y.plain, y.images, 4, "y");
    }
    plain_->ChannelNormSums(x.plain, statistics, dy.plain, gradient64);
    device_->ChannelNormSums(x.images, statistics, dy.images, gradient32);
    Check(gradient64, gradient32, n, "gradient sums");
    for (const double count : {0.0, static_cast<double>(n)}) {
      plain_->ChannelNormBackward(x.plain, statistics, gamma64, gradient64, count, dy.plain, dx.plain);
      device_->ChannelNormBackward(x.images, statistics, gamma32, gradient64, count, dy.images, dx.images);
      Check(dx.plain, dx.images, 8, "dx");
      CheckUnusedAreZero(dx.images, "dx");
    }
  }
}

// What no device takes in a layout of its own.
TEST_P(ImagesConformance, OddShapesStayRowMajor) {
  const Shape x{16, 8, 9, 9}, kernel{8, 8, 3, 3};
  EXPECT_EQ(device_->ImageLayout({.size = {3, 3}}, x, kernel, DType::kF64), Layout::kRowMajor);
  EXPECT_EQ(device_->ImageLayout({.size = {3, 3}, .groups = 2}, x, kernel, DType::kF32), Layout::kRowMajor);
}

std::string NameOf(const ::testing::TestParamInfo<size_t>& info) { return Devices()[info.param].name; }

INSTANTIATE_TEST_SUITE_P(Devices, ImagesConformance, ::testing::Range(size_t{0}, Devices().size()), NameOf);

}  // namespace
}  // namespace lockstep::conformance
