// SPDX-License-Identifier: Apache-2.0
// Products with what rides in them, against the same in double and one thing after the other.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/conformance/arrays.h"
#include "tests/conformance/devices.h"
#include "tests/conformance/tolerance.h"
#include "worker/device/device.h"

namespace lockstep::conformance {
namespace {

// Of a batch of `rows`: `in` inputs, `out` outputs.
struct Case {
  int64_t rows, in, out;
};
// Widths around what a mask's column, a tile and a run of sixteen bytes hold.
const Case kCases[] = {{1, 1, 1}, {5, 7, 3}, {32, 128, 10}, {8, 14, 21}, {33, 130, 40}, {300, 6, 9}};

// The largest error of a product of two factors that are at most 1.05; TF32 may be cut off instead of rounded.
double ErrorOf(ProductPrecision precision) {
  double rounding = 0;
  if (precision == ProductPrecision::kBf16) rounding = 0x1p-9;
  if (precision == ProductPrecision::kTf32) rounding = 0x1p-10;
  if (precision == ProductPrecision::kFloat16) rounding = 0x1p-11;
  return (2 * rounding + rounding * rounding) * 1.05 * 1.05;
}

class ProductsConformance : public ::testing::TestWithParam<std::tuple<size_t, ProductPrecision>> {
 protected:
  ProductsConformance()
      : device_(Devices()[std::get<0>(GetParam())].make()),
        plain_(MakeCpuDevice(1)),
        precision_(std::get<1>(GetParam())),
        arrays_(device_.get()) {}

  struct Pair {
    Tensor found, expected;
  };
  Pair Random(const Shape& shape, uint64_t stream) {
    return {arrays_.Random(shape, DType::kF32, stream), arrays_.Random(shape, DType::kF64, stream)};
  }
  Pair Zeros(const Shape& shape) { return {arrays_.Zeros(shape, DType::kF32), arrays_.Zeros(shape, DType::kF64)}; }
  // Sums of so many products.
  void Check(const Pair& pair, int64_t terms, const std::string& what) const {
    const double tolerance = (Tolerance(DType::kF32, terms) * 1.2 + ErrorOf(precision_)) * static_cast<double>(terms);
    for (int64_t i = 0; i < pair.expected.elements(); ++i) {
      ASSERT_NEAR(Arrays::Get(pair.found, i), Arrays::Get(pair.expected, i), tolerance) << what << " at " << i;
    }
  }

  std::unique_ptr<Device> device_, plain_;
  ProductPrecision precision_;
  Arrays arrays_;
};

TEST_P(ProductsConformance, RowsAreSummedBesideAKernelsGradient) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(absl::StrCat(c.rows, " rows, ", c.in, " to ", c.out));
    const Pair x = Random({c.rows, c.in}, 1), dy = Random({c.rows, c.out}, 2);
    const Pair dkernel = Zeros({c.in, c.out}), dbias = Zeros({c.out});
    plain_->Gemm({.transpose_a = true}, x.expected, dy.expected, {}, dkernel.expected);
    plain_->SumRows(dy.expected, dbias.expected);
    device_->Gemm({.transpose_a = true, .precision = precision_, .row_sums = dbias.found}, x.found, dy.found, {},
                  dkernel.found);
    Check(dkernel, c.rows, "dkernel");
    Check(dbias, c.rows, "dbias");
  }
}

TEST_P(ProductsConformance, AnActivationsGradientIsApplied) {
  for (const Case& c : kCases) {
    for (const Activation kind : {Activation::kRelu, Activation::kTanh}) {
      for (const bool with_bias : {true, false}) {
        SCOPED_TRACE(absl::StrCat(c.rows, " rows, ", c.in, " to ", c.out, ", function ", static_cast<int>(kind)));
        const Pair x = Random({c.rows, 5}, 1), kernel = Random({5, c.in}, 2), bias = Random({c.in}, 3);
        const Pair source = Zeros({c.rows, c.in});
        const Tensor mask = arrays_.Zeros({GemmMaskElements(c.rows, c.in)}, DType::kF64);
        const ActivationArgs function{kind};
        plain_->Gemm({.activation = function}, x.expected, kernel.expected, with_bias ? bias.expected : Tensor{},
                     source.expected);
        device_->Gemm({.activation = function, .precision = precision_, .mask = mask}, x.found, kernel.found,
                      with_bias ? bias.found : Tensor{}, source.found);
        Check(source, 6, "y");
        // The gradient is that of the outputs which the device has.
        for (int64_t i = 0; i < source.found.elements(); ++i) {
          Arrays::Set(source.expected, i, Arrays::Get(source.found, i));
        }
        const Pair dy = Random({c.rows, c.out}, 4), next = Random({c.in, c.out}, 5), dx = Zeros({c.rows, c.in});
        plain_->Gemm({.transpose_b = true}, dy.expected, next.expected, {}, dx.expected);
        plain_->ActivationBackward(function, {}, source.expected, dx.expected, dx.expected);
        // With the bits that the product has left, with room that no product knows, and with none.
        const Tensor other = arrays_.Zeros({GemmMaskElements(c.rows, c.in)}, DType::kF64);
        for (const Tensor& bits : {mask, other, Tensor{}}) {
          device_->Gemm(
              {.transpose_b = true, .precision = precision_, .before = function, .source = source.found, .mask = bits},
              dy.found, next.found, {}, dx.found);
          Check(dx, c.out, "dx");
        }
      }
    }
  }
}

// Bits that an older product has left are not taken for those of a newer one.
TEST_P(ProductsConformance, AMaskIsThatOfTheNewestProduct) {
  const Pair x = Random({4, 5}, 1), kernel = Random({5, 16}, 2), dy = Random({4, 3}, 3), next = Random({16, 3}, 4);
  const Pair source = Zeros({4, 16}), dx = Zeros({4, 16});
  const Tensor mask = arrays_.Zeros({GemmMaskElements(4, 16)}, DType::kF64);
  for (const double sign : {1.0, -1.0}) {
    for (int64_t i = 0; i < x.found.elements(); ++i) Arrays::Set(x.found, i, sign * Arrays::Get(x.expected, i));
    device_->Gemm({.activation = {Activation::kRelu}, .precision = precision_, .mask = mask}, x.found, kernel.found, {},
                  source.found);
    for (int64_t i = 0; i < source.found.elements(); ++i) {
      Arrays::Set(source.expected, i, Arrays::Get(source.found, i));
    }
    plain_->Gemm({.transpose_b = true}, dy.expected, next.expected, {}, dx.expected);
    plain_->ActivationBackward({Activation::kRelu}, {}, source.expected, dx.expected, dx.expected);
    device_->Gemm({.transpose_b = true,
                   .precision = precision_,
                   .before = {Activation::kRelu},
                   .source = source.found,
                   .mask = mask},
                  dy.found, next.found, {}, dx.found);
    Check(dx, 3, "dx");
  }
}

std::string NameOf(const ::testing::TestParamInfo<std::tuple<size_t, ProductPrecision>>& info) {
  const char* const names[] = {"float", "bf16", "tf32", "float16"};
  return Devices()[std::get<0>(info.param)].name + "_" + names[static_cast<size_t>(std::get<1>(info.param))];
}

INSTANTIATE_TEST_SUITE_P(Devices, ProductsConformance,
                         ::testing::Combine(::testing::Range(size_t{0}, Devices().size()),
                                            ::testing::Values(ProductPrecision::kFloat, ProductPrecision::kBf16,
                                                              ProductPrecision::kTf32, ProductPrecision::kFloat16)),
                         NameOf);

}  // namespace
}  // namespace lockstep::conformance
