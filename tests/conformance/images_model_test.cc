// SPDX-License-Identifier: Apache-2.0
// A residual network in each precision: the layouts that a device picks between its layers, and the copies where they
// meet, against the CPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "common/model/model_plan.h"
#include "tests/conformance/arrays.h"
#include "tests/conformance/devices.h"
#include "tests/conformance/tolerance.h"
#include "worker/nn/model.h"

namespace lockstep::conformance {
namespace {

constexpr int64_t kRows = 4;

// Smooth, so that a rounding moves it a little and never decides who passes. The first padding is uneven.
const char kResidual[] = R"pb(
  layers { conv2d { filters: 8 kernel_size: 3 strides: 2 padding: PADDING_SAME use_bias: false } }
  layers { batch_normalization {} }
  layers {
    name: 'stem'
    tanh {}
  }
  layers { conv2d { filters: 16 kernel_size: 3 padding: PADDING_SAME activation: 'tanh' } }
  layers {
    name: 'deep'
    conv2d { filters: 8 kernel_size: 3 padding: PADDING_SAME use_bias: false }
  }
  layers { batch_normalization {} }
  layers {
    name: 'sum'
    add {}
    inputs: 'batch_normalization_1'
    inputs: 'stem'
  }
  layers { average_pooling2d {} }
  layers { conv2d { filters: 16 kernel_size: 2 strides: 2 activation: 'sigmoid' } }
  layers {
    name: 'flat'
    flatten {}
  }
  layers { dense { units: 3 } }
)pb";

struct Outcome {
  double loss = 0;
  std::vector<double> gradient;
  std::vector<ParameterView> views;
};

Outcome Train(const TestDevice& on, ProductPrecision precision) {
  const std::unique_ptr<Device> device = on.make();
  Arrays arrays(device.get());
  Violations violations;
  v1::ModelSpec spec = FromText<v1::ModelSpec>(kResidual);
  const ModelPlan plan = PlanModel(spec, Shape{3, 12, 12}, violations);
  for (const Violation& v : violations.list()) ADD_FAILURE() << v.field << " " << v.description;
  const std::unique_ptr<Model> model =
      Model::Create(device.get(), plan, FromText<v1::LossSpec>("mean_squared_error {}"), DType::kF32, kRows, {}, 1,
                    precision)
          .value();
  model->Initialize(3);
  const Tensor x = arrays.Random({kRows, 3, 12, 12}, DType::kF32, 1),
               targets = arrays.Random({kRows, 3}, DType::kF32, 2);
  const Tensor gradient = arrays.Zeros(model->parameters().shape, DType::kF32);
  const Tensor stats = arrays.Zeros({model->stats_width()}, DType::kF64);
  model->ForwardBackward({.training = true, .seed = 1}, {x, targets, kRows}, 1.0 / kRows, gradient, stats, nullptr);
  Outcome outcome{.loss = stats.as<double>()[0] / kRows, .gradient = {}, .views = model->parameter_views()};
  for (int64_t i = 0; i < gradient.elements(); ++i) outcome.gradient.push_back(Arrays::Get(gradient, i));
  return outcome;
}

class ImagesModelConformance : public ::testing::TestWithParam<ProductPrecision> {};

TEST_P(ImagesModelConformance, AgreesWithTheCpu) {
  const Outcome expected = Train({.name = "cpu", .make = [] { return MakeCpuDevice(1); }}, ProductPrecision::kFloat);
  const Outcome found = Train(Devices()[0], GetParam());
  // Five layers of products behind each other, and back.
  constexpr double kProducts = 10;
  const int64_t reduction = 2 * 16 * 9 + kRows * 36;
  const double one =
      GetParam() == ProductPrecision::kFloat ? Tolerance(DType::kF32, reduction) : Bf16Tolerance(reduction);
  EXPECT_NEAR(found.loss, expected.loss, kProducts * one);
  for (const ParameterView& view : expected.views) {
    double largest = 0;
    for (int64_t i = view.offset; i < view.offset + view.shape.elements(); ++i) {
      largest = std::max(largest, std::abs(expected.gradient[static_cast<size_t>(i)]));
    }
    for (int64_t i = view.offset; i < view.offset + view.shape.elements(); ++i) {
      EXPECT_NEAR(found.gradient[static_cast<size_t>(i)], expected.gradient[static_cast<size_t>(i)],
                  kProducts * one * std::max(largest, 1.0))
          << view.name << "[" << i - view.offset << "]";
    }
  }
}

std::string NameOf(const ::testing::TestParamInfo<ProductPrecision>& info) {
  const char* const names[] = {"Float", "Bf16", "Tf32", "Float16"};
  return names[static_cast<size_t>(info.param)];
}

INSTANTIATE_TEST_SUITE_P(Precisions, ImagesModelConformance,
                         ::testing::Values(ProductPrecision::kFloat, ProductPrecision::kTf32, ProductPrecision::kBf16,
                                           ProductPrecision::kFloat16),
                         NameOf);

}  // namespace
}  // namespace lockstep::conformance
