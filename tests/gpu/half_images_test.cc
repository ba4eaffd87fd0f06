// SPDX-License-Identifier: Apache-2.0
// What a device does to images that lie in 16 bits, against the same in double of the same numbers: what is stored is
// rounded once, and nothing else is.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/conformance/arrays.h"
#include "tests/conformance/devices.h"
#include "tests/conformance/tolerance.h"
#include "tests/gpu/factors.h"

namespace lockstep::conformance {
namespace {

// A square convolution or pooling.
struct Case {
  int64_t rows, channels, filters, height, width, size;
  int64_t stride = 1, dilation = 1, pad = 0;
  // More rows and columns of zeros behind the image than before it.
  int64_t uneven = 0;

  WindowArgs args() const {
    return {.size = {size, size},
            .stride = {stride, stride},
            .dilation = {dilation, dilation},
            .pad_begin = {pad, pad},
            .pad_end = {pad + uneven, pad + uneven}};
  }
  int64_t Out(int64_t length) const { return (length + 2 * pad + uneven - dilation * (size - 1) - 1) / stride + 1; }
  Shape x() const { return {rows, channels, height, width}; }
  Shape kernel() const { return {filters, channels, size, size}; }
  Shape y(int64_t planes) const { return {rows, planes, Out(height), Out(width)}; }
  std::string name() const {
    return absl::StrCat("rows ", rows, ", ", channels, " to ", filters, " channels, ", height, "x", width, ", window ",
                        size, ", stride ", stride, ", dilation ", dilation, ", pad ", pad, ", uneven ", uneven);
  }
};

// Those of a residual network, and what a library may not take: heights by five and strides of three have no engine of
// 16 bits in the emulated one, and nothing is behind a dilated window there.
const Case kCases[] = {
    {2, 3, 8, 14, 14, 7, 2, 1, 3}, {3, 8, 16, 7, 6, 3, 1, 1, 1},    {2, 16, 8, 8, 9, 3, 2, 1, 1},
    {2, 8, 8, 8, 8, 1, 2},         {2, 8, 16, 8, 8, 3, 2, 1, 0, 1}, {2, 8, 8, 10, 7, 3, 1, 1, 1},
    {2, 8, 8, 12, 7, 3, 3},        {2, 8, 16, 9, 9, 3, 1, 2, 2},    {2, 16, 8, 4, 6, 2, 2},
};

class HalfImages : public testing::TestWithParam<Kind> {
 protected:
  // The same numbers row-major in double and as images of 16 bits.
  struct Pair {
    Tensor plain, images;
  };
  Tensor Images(const Shape& shape) {
    Tensor t = arrays_.Zeros(Shape{(device_->LayoutElements(shape, Layout::kImages) + 1) / 2}, DType::kF32);
    return {t.data, shape, GetParam().type, Layout::kImages};
  }
  // Numbers that 16 bits hold, in both precisions.
  struct Held {
    Tensor plain, floats;
  };
  Held Round(const Shape& shape, uint64_t stream) {
    const Held held{arrays_.Zeros(shape, DType::kF64), arrays_.Random(shape, DType::kF32, stream)};
    Tensor rounded = arrays_.Zeros(Shape{(shape.elements() + 1) / 2}, DType::kF32);
    rounded.shape = shape;
    rounded.type = GetParam().type;
    device_->Round(held.floats, rounded);
    for (int64_t i = 0; i < shape.elements(); ++i) {
      Arrays::Set(held.plain, i, Get(rounded, i));
      Arrays::Set(held.floats, i, Get(rounded, i));
    }
    return held;
  }
  Pair Random(const Shape& shape, uint64_t stream) {
    const Held held = Round(shape, stream);
    const Pair pair{held.plain, Images(shape)};
    device_->Relayout(held.floats, pair.images);
    return pair;
  }
  Pair Zeros(const Shape& shape) { return {arrays_.Zeros(shape, DType::kF64), Images(shape)}; }

  Tensor InRows(const Tensor& images) {
    const Tensor rows = arrays_.Zeros(images.shape, DType::kF32);
    device_->Relayout(images, rows);
    return rows;
  }
  // Stored once, or `before` and then again. slack: of sums in float.
  void Check(const Pair& pair, double slack, const std::string& what, const Tensor& before = {}) {
    const Tensor found = InRows(pair.images);
    for (int64_t i = 0; i < found.elements(); ++i) {
      const double want = Get(pair.plain, i);
      const double stored = std::abs(want) + (before.data == nullptr ? 0 : std::abs(Get(before, i)));
      ASSERT_NEAR(Get(found, i), want, stored * GetParam().rounding * 1.01 + slack) << what << " at " << i;
    }
  }
  void CheckFloats(const Tensor& want, const Tensor& found, double rounding, double slack, const std::string& what) {
    for (int64_t i = 0; i < want.elements(); ++i) {
      ASSERT_NEAR(Get(found, i), Get(want, i), std::abs(Get(want, i)) * rounding * 1.01 + slack) << what << " at " << i;
    }
  }
  // Of so many terms that are at most 1.05 squared.
  static double SumError(int64_t terms) { return Tolerance(DType::kF32, terms) * 1.2 * static_cast<double>(terms); }

  WindowArgs Rounding(WindowArgs args) const {
    args.precision = GetParam().precision;
    return args;
  }

  std::unique_ptr<Device> device_ = MakeTestDevice();
  // Computes in double, in memory that is the host's.
  std::unique_ptr<Device> plain_ = MakeCpuDevice(1);
  Arrays arrays_{device_.get()};
};

TEST_P(HalfImages, AreTheRoundedNumbersInAnotherOrder) {
  ASSERT_EQ(device_->FactorType(GetParam().precision), GetParam().type);
  for (const Shape& shape : {Shape{2, 3, 5, 7}, Shape{5, 9, 1, 1}, Shape{3, 40, 6, 6}, Shape{17, 10}}) {
    const Tensor x = arrays_.Random(shape, DType::kF32, 1);
    const Pair images{x, Images(shape)};
    device_->Relayout(x, images.images);
    Check(images, 0, shape.ToString());
    // Rows of 16 bits, and back.
    Tensor rows = Images(shape);
    rows.layout = Layout::kRowMajor;
    const Tensor again = Images(shape);
    device_->Relayout(images.images, rows);
    device_->Relayout(rows, again);
    EXPECT_TRUE(SameBits(images.images, again)) << shape.ToString();
    const Tensor floats = InRows(images.images);
    for (int64_t i = 0; i < shape.elements(); ++i) ASSERT_EQ(Get(rows, i), Get(floats, i)) << i;
  }
}

TEST_P(HalfImages, AreConvolved) {
  for (const Case& c : kCases) {
    const WindowArgs args = c.args(), rounding = Rounding(args);
    const Pair x = Random(c.x(), 2), y = Zeros(c.y(c.filters));
    const Held kernel = Round(c.kernel(), 3), bias = Round({c.filters}, 4);
    const Tensor product = arrays_.Zeros(y.plain.shape, DType::kF64), none;
    plain_->ConvForward(args, x.plain, kernel.plain, {}, {}, product);
    const double slack = SumError(c.size * c.size * c.channels + 1);
    for (const Activation kind : {Activation::kLinear, Activation::kRelu, Activation::kTanh}) {
      for (const bool with_bias : {false, true}) {
        SCOPED_TRACE(absl::StrCat(c.name(), ", function ", static_cast<int>(kind), ", bias ", with_bias));
        device_->ConvForward(rounding, x.images, kernel.floats, with_bias ? bias.floats : none, {kind}, y.images);
        // What is stored before a function that the library does not have behind it.
        plain_->ConvForward(args, x.plain, kernel.plain, with_bias ? bias.plain : none, {}, y.plain);
        const Tensor before = arrays_.Zeros(y.plain.shape, DType::kF64);
        plain_->Copy(c.dilation == 1 ? y.plain : product, before);
        plain_->ActivationForward({kind}, y.plain, y.plain);
        const bool twice = kind == Activation::kTanh || (c.dilation > 1 && with_bias);
        Check(y, slack, "y", twice ? before : none);
      }
    }
  }
}

TEST_P(HalfImages, HaveGradientsOfConvolutions) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name());
    const WindowArgs args = c.args(), rounding = Rounding(args);
    const Pair x = Random(c.x(), 2), dy = Random(c.y(c.filters), 5), dx = Zeros(c.x());
    const Held kernel = Round(c.kernel(), 3);
    for (const ActivationArgs& before : {ActivationArgs{}, {Activation::kRelu}, {Activation::kLeakyRelu, 0.25}}) {
      plain_->ConvBackwardInput(args, dy.plain, kernel.plain, before, x.plain, dx.plain);
      device_->ConvBackwardInput(rounding, dy.images, kernel.floats, before, x.images, dx.images);
      const bool once = before.linear() || before.kind == Activation::kRelu;
      Check(dx, SumError(c.size * c.size * c.filters), "dx", once ? Tensor{} : dx.plain);
    }
    const Tensor dkernel64 = arrays_.Zeros(c.kernel(), DType::kF64), dbias64 = arrays_.Zeros({c.filters}, DType::kF64);
    const Tensor dkernel = arrays_.Zeros(c.kernel(), DType::kF32), dbias = arrays_.Zeros({c.filters}, DType::kF32);
    plain_->ConvBackwardKernel(args, x.plain, dy.plain, dkernel64, dbias64);
    device_->ConvBackwardKernel(rounding, x.images, dy.images, dkernel, dbias);
    const double slack = SumError(c.rows * c.Out(c.height) * c.Out(c.width));
    CheckFloats(dkernel64, dkernel, GetParam().rounding, slack, "dkernel");
    // Not rounded.
    CheckFloats(dbias64, dbias, 0, slack, "dbias");
  }
}

TEST_P(HalfImages, ArePooled) {
  for (const Case& c : {Case{2, 16, 16, 8, 8, 2, 2},
                        {3, 5, 5, 9, 7, 3, 2, 1, 1},
                        {2, 8, 8, 7, 7, 3, 2, 1, 1},
                        {2, 24, 24, 7, 7, 7, 7},
                        {2, 4, 4, 6, 6, 3, 1, 1, 1}}) {
    const Pair x = Random(c.x(), 6), dy = Random(c.y(c.channels), 7), y = Zeros(c.y(c.channels)), dx = Zeros(c.x());
    for (const Pooling kind : {Pooling::kMax, Pooling::kAverage}) {
      SCOPED_TRACE(c.name() + (kind == Pooling::kMax ? ", max" : ", average"));
      const double slack = SumError(c.size * c.size);
      plain_->PoolForward(kind, c.args(), x.plain, y.plain);
      device_->PoolForward(kind, c.args(), x.images, y.images);
      if (kind == Pooling::kMax) {
        // One of the numbers themselves.
        CheckFloats(y.plain, InRows(y.images), 0, 0, "y");
      } else {
        Check(y, slack, "y");
      }
      for (const ActivationArgs& before : {ActivationArgs{}, {Activation::kRelu}, {Activation::kSigmoid}}) {
        plain_->PoolBackward(kind, c.args(), x.plain, y.plain, dy.plain, before, dx.plain);
        device_->PoolBackward(kind, c.args(), x.images, y.images, dy.images, before, dx.images);
        Check(dx, slack, "dx", before.kind == Activation::kSigmoid ? dx.plain : Tensor{});
      }
    }
  }
}

// Of equal ones the first, whatever else the window holds.
TEST_P(HalfImages, GiveTheFirstOfTheLargestItsGradient) {
  const Case c{2, 16, 16, 8, 8, 3, 2, 1, 1};
  const Pair dy = Random(c.y(16), 8), y = Zeros(c.y(16)), dx = Zeros(c.x());
  const Tensor plain = arrays_.Zeros(c.x(), DType::kF64), floats = arrays_.Zeros(c.x(), DType::kF32);
  for (int64_t i = 0; i < plain.elements(); ++i) {
    Arrays::Set(plain, i, static_cast<double>(i * 7 % 3));
    Arrays::Set(floats, i, static_cast<double>(i * 7 % 3));
  }
  const Tensor images = Images(c.x());
  device_->Relayout(floats, images);
  plain_->PoolForward(Pooling::kMax, c.args(), plain, y.plain);
  device_->PoolForward(Pooling::kMax, c.args(), images, y.images);
  plain_->PoolBackward(Pooling::kMax, c.args(), plain, y.plain, dy.plain, {}, dx.plain);
  device_->PoolBackward(Pooling::kMax, c.args(), images, y.images, dy.images, {}, dx.images);
  Check(dx, SumError(4), "dx");
}

TEST_P(HalfImages, AreNormalised) {
  // Channels by eight, by two and by one; sums of one part and of several.
  for (const Shape& shape : {Shape{3, 16, 5, 4}, Shape{5, 6, 3, 3}, Shape{7, 3, 2, 6}, Shape{4, 72, 12, 12}}) {
    SCOPED_TRACE(shape.ToString());
    const int64_t channels = shape[1], n = shape.elements() / channels;
    const Pair x = Random(shape, 9), dy = Random(shape, 10), y = Zeros(shape), dx = Zeros(shape);
    const auto sums = [&] { return arrays_.Zeros({2, channels}, DType::kF64); };
    const Tensor sums64 = sums(), found = sums(), gradient64 = sums(), found_gradient = sums();
    // Of the numbers as they lie, in double.
    const double exact = Tolerance(DType::kF64, n) * static_cast<double>(n);
    plain_->ChannelSums(x.plain, sums64);
    device_->ChannelSums(x.images, found);
    CheckFloats(sums64, found, 0, exact, "sums");
    const Tensor statistics = arrays_.Zeros({3, channels}, DType::kF64);
    plain_->ChannelStatistics(sums64, static_cast<double>(n), 1e-3, statistics);
    plain_->ChannelNormSums(x.plain, statistics, dy.plain, gradient64);
    device_->ChannelNormSums(x.images, statistics, dy.images, found_gradient);
    CheckFloats(gradient64, found_gradient, 0, 4 * exact, "gradient sums");
    const Held gamma = Round({channels}, 11), beta = Round({channels}, 12);
    // Numbers of up to 5 in a few operations.
    const double slack = 5 * Tolerance(DType::kF32, 4);
    const Tensor before = arrays_.Zeros(shape, DType::kF64);
    plain_->ChannelNormForward(x.plain, statistics, gamma.plain, beta.plain, {}, before);
    for (const Activation kind : {Activation::kLinear, Activation::kRelu, Activation::kTanh}) {
      plain_->ActivationForward({kind}, before, y.plain);
      device_->ChannelNormForward(x.images, statistics, gamma.floats, beta.floats, {kind}, y.images);
      Check(y, slack, "y", kind == Activation::kTanh ? before : Tensor{});
    }
    for (const double count : {0.0, static_cast<double>(n)}) {
      plain_->ChannelNormBackward(x.plain, statistics, gamma.plain, gradient64, count, dy.plain, dx.plain);
      device_->ChannelNormBackward(x.images, statistics, gamma.floats, gradient64, count, dy.images, dx.images);
      Check(dx, slack, "dx");
    }
  }
}

TEST_P(HalfImages, PassThroughFunctions) {
  // With and without sixteen bytes at a time.
  for (const Shape& shape : {Shape{2, 16, 3, 3}, Shape{3, 5, 3, 1}}) {
    const Pair x = Random(shape, 13), dy = Random(shape, 14), y = Zeros(shape), dx = Zeros(shape);
    for (const ActivationArgs& args : std::vector<ActivationArgs>{{Activation::kRelu},
                                                                  {Activation::kLeakyRelu, 0.25},
                                                                  {Activation::kElu, 1},
                                                                  {Activation::kSelu},
                                                                  {Activation::kGelu},
                                                                  {Activation::kGeluTanh},
                                                                  {Activation::kSilu},
                                                                  {Activation::kSigmoid},
                                                                  {Activation::kHardSigmoid},
                                                                  {Activation::kTanh},
                                                                  {Activation::kSoftplus}}) {
      SCOPED_TRACE(absl::StrCat(shape.ToString(), ", function ", static_cast<int>(args.kind)));
      const double slack = 4 * Tolerance(DType::kF32, 8);
      plain_->ActivationForward(args, x.plain, y.plain);
      device_->ActivationForward(args, x.images, y.images);
      Check(y, slack, "y");
      // Of what was stored.
      const Tensor stored = InRows(y.images);
      for (int64_t i = 0; i < stored.elements(); ++i) Arrays::Set(y.plain, i, Get(stored, i));
      plain_->ActivationBackward(args, x.plain, y.plain, dy.plain, dx.plain);
      device_->ActivationBackward(args, x.images, y.images, dy.images, dx.images);
      Check(dx, slack, "dx");
    }
    plain_->Add(x.plain, dy.plain, y.plain);
    device_->Add(x.images, dy.images, y.images);
    Check(y, 0, "sum");
    device_->Add(x.images, dy.images, dy.images);
    EXPECT_TRUE(SameBits(dy.images, y.images));
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, HalfImages, testing::ValuesIn(kKinds), [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace lockstep::conformance
