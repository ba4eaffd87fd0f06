// SPDX-License-Identifier: Apache-2.0
// What lies between products in 16 bits: the same numbers as factors that are rounded when they are read.
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/model/model_plan.h"
#include "gtest/gtest.h"
#include "tests/conformance/arrays.h"
#include "tests/conformance/devices.h"
#include "tests/gpu/factors.h"
#include "worker/nn/model.h"

namespace lockstep::conformance {
namespace {

class FactorProducts : public testing::TestWithParam<Kind> {
 protected:
  Tensor Factors(const Shape& shape) {
    Tensor t = arrays_.Zeros(Shape{(shape.elements() + 1) / 2}, DType::kF32);
    t.shape = shape;
    t.type = GetParam().type;
    return t;
  }
  void ExpectNear(const Tensor& factors, const Tensor& floats, double slack) const {
    for (int64_t i = 0; i < floats.elements(); ++i) {
      const double want = Get(floats, i);
      ASSERT_NEAR(Get(factors, i), want, std::abs(want) * GetParam().rounding * 1.01 + slack) << i;
    }
  }

  static double Get64(const Tensor& t) { return t.as<double>()[0]; }

  std::unique_ptr<Device> device_ = MakeTestDevice();
  Arrays arrays_{device_.get()};
  std::vector<std::unique_ptr<Model>> models_;
};

// Of a sum of a few products in float, in whatever order; far below what 16 bits round away.
constexpr double kSumError = 2e-5;
// Widths with and without an epilogue in the library, be it emulated or not.
constexpr int64_t kWidths[] = {16, 35, 48, 10, 128, 21};

TEST_P(FactorProducts, AreTheFloatsRounded) {
  ASSERT_EQ(device_->FactorType(GetParam().precision), GetParam().type);
  constexpr int64_t kRows = 24, kDepth = 40;
  for (const int64_t width : kWidths) {
    for (const Activation kind : {Activation::kLinear, Activation::kRelu}) {
      for (const bool with_bias : {false, true}) {
        SCOPED_TRACE(absl::StrCat(width, " columns, function ", static_cast<int>(kind), ", bias ", with_bias));
        const Tensor x = arrays_.Random({kRows, kDepth}, DType::kF32, 1);
        const Tensor kernel = arrays_.Random({kDepth, width}, DType::kF32, 2);
        const Tensor bias = with_bias ? arrays_.Random({width}, DType::kF32, 3) : Tensor{};
        const Tensor mask = arrays_.Zeros({GemmMaskElements(kRows, width)}, DType::kF64);
        const Tensor y = Factors({kRows, width}), floats = arrays_.Zeros({kRows, width}, DType::kF32);
        GemmArgs args{.activation = {kind}, .precision = GetParam().precision};
        device_->Gemm(args, x, kernel, bias, floats);
        if (kind != Activation::kLinear) args.mask = mask;
        device_->Gemm(args, x, kernel, bias, y);
        // A bias is at most 1.05.
        ExpectNear(y, floats, with_bias ? 1.05 * GetParam().rounding : kSumError);

        // Both gradients, of what was put out, from a gradient in 16 bits.
        const Tensor next = arrays_.Random({width, 9}, DType::kF32, 4);
        const Tensor wide_dy = arrays_.Random({kRows, 9}, DType::kF32, 5), dy = Factors({kRows, 9});
        // The rounding is a product with 1.
        const Tensor one = arrays_.Zeros({9, 9}, DType::kF32);
        for (int64_t i = 0; i < 9; ++i) Arrays::Set(one, i * 10, 1);
        device_->Gemm({.precision = GetParam().precision}, wide_dy, one, {}, dy);
        GemmArgs of_input{.transpose_b = true, .precision = GetParam().precision, .before = {kind}};
        if (kind != Activation::kLinear) {
          of_input.source = y;
          of_input.mask = mask;
        }
        const Tensor dx = Factors({kRows, width}), float_dx = arrays_.Zeros({kRows, width}, DType::kF32);
        device_->Gemm(of_input, dy, next, {}, dx);
        device_->Gemm(of_input, wide_dy, next, {}, float_dx);
        ExpectNear(dx, float_dx, kSumError);
        const Tensor dkernel = arrays_.Zeros({width, 9}, DType::kF32),
                     float_dkernel = arrays_.Zeros({width, 9}, DType::kF32);
        const Tensor dbias = arrays_.Zeros({9}, DType::kF32), float_dbias = arrays_.Zeros({9}, DType::kF32);
        device_->Gemm({.transpose_a = true, .precision = GetParam().precision, .row_sums = dbias}, y, dy, {}, dkernel);
        device_->Gemm({.transpose_a = true, .precision = GetParam().precision, .row_sums = float_dbias}, y, wide_dy, {},
                      float_dkernel);
        for (int64_t i = 0; i < dkernel.elements(); ++i) {
          ASSERT_NEAR(Get(dkernel, i), Get(float_dkernel, i), 1e-4) << i;
        }
        for (int64_t i = 0; i < 9; ++i) {
          ASSERT_NEAR(Get(dbias, i), Get(float_dbias, i), kRows * 1.05 * GetParam().rounding) << i;
        }
      }
    }
  }
}

TEST_P(FactorProducts, AreLookedThrough) {
  const Tensor one = arrays_.Zeros({1, 1}, DType::kF32), x = arrays_.Random({7, 1}, DType::kF32, 1),
               y = Factors({7, 1});
  const Tensor flag = arrays_.Zeros({1}, DType::kF64);
  Arrays::Set(one, 0, 1);
  for (const double bad : {1.0, std::numeric_limits<double>::infinity(), std::nan("")}) {
    Arrays::Set(x, 6, bad);
    device_->Gemm({.precision = GetParam().precision}, x, one, {}, y);
    device_->CheckFinite(y, flag);
    EXPECT_EQ(Get64(flag), std::isfinite(bad) ? 0.0 : 1.0);
  }
}

// A model whose hidden layers lie in 16 bits while it trains, and in floats while it is judged.
TEST_P(FactorProducts, OfAModelAreNearItsOwnInDouble) {
  v1::ModelSpec spec;
  for (const int units : {48, 35, 32}) {
    spec.add_layers()->mutable_dense()->set_units(units);
    if (units != 35) spec.mutable_layers()->rbegin()->mutable_dense()->set_activation("relu");
  }
  spec.add_layers()->mutable_dense()->set_units(6);
  Violations violations;
  const ModelPlan plan = PlanModel(spec, Shape{20}, violations);
  const auto loss = FromText<v1::LossSpec>("sparse_categorical_crossentropy { from_logits: true }");
  constexpr int64_t kRows = 30;
  struct Result {
    double loss, judged;
    Tensor gradient;
  };
  const auto run = [&](DType type, ProductPrecision precision) -> Result {
    models_.push_back(Model::Create(device_.get(), plan, loss, type, kRows, {}, 1, precision).value());
    Model& model = *models_.back();
    const Tensor drawn = arrays_.Random(model.parameters().shape, DType::kF32, 3);
    for (const ParameterView& view : model.parameter_views()) {
      for (int64_t i = view.offset; i < view.offset + view.shape.elements(); ++i) {
        Arrays::Set(model.parameters(), i, static_cast<float>(Arrays::Get(drawn, i) * 0.2));
      }
    }
    const Batch batch{arrays_.Random({kRows, 20}, type, 1), arrays_.Labels(kRows, 6), kRows};
    const Tensor gradient = arrays_.Zeros(model.parameters().shape, type);
    const Tensor stats = arrays_.Zeros({1}, DType::kF64), judged = arrays_.Zeros({1}, DType::kF64);
    model.ForwardBackward({.training = true}, batch, 1, gradient, stats, nullptr);
    model.Evaluate(batch, judged);
    // And back again.
    const Tensor again = arrays_.Zeros(model.parameters().shape, type);
    model.ForwardBackward({.training = true}, batch, 1, again, arrays_.Zeros({1}, DType::kF64), nullptr);
    EXPECT_TRUE(SameBits(gradient, again));
    return {Get64(stats), Get64(judged), gradient};
  };
  const Result found = run(DType::kF32, GetParam().precision), want = run(DType::kF64, ProductPrecision::kFloat);
  EXPECT_NEAR(found.judged, want.judged, kRows * 1e-6);
  EXPECT_NEAR(found.loss, want.loss, kRows * 4 * GetParam().rounding);
  EXPECT_NE(found.loss, found.judged);
  double error = 0, size = 0;
  for (int64_t i = 0; i < want.gradient.elements(); ++i) {
    error += std::pow(Arrays::Get(found.gradient, i) - Arrays::Get(want.gradient, i), 2);
    size += std::pow(Arrays::Get(want.gradient, i), 2);
  }
  // Three roundings in a row, of factors on both sides.
  EXPECT_LT(std::sqrt(error / size), 6 * GetParam().rounding);
}

INSTANTIATE_TEST_SUITE_P(Precisions, FactorProducts, testing::ValuesIn(kKinds),
                         [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace lockstep::conformance
