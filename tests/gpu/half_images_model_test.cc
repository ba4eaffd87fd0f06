// SPDX-License-Identifier: Apache-2.0
// A residual network whose images lie in 16 bits while it trains, and in floats while it is judged.
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "common/model/input_plan.h"
#include "common/model/memory_plan.h"
#include "common/model/model_plan.h"
#include "gtest/gtest.h"
#include "tests/conformance/arrays.h"
#include "tests/conformance/devices.h"
#include "tests/gpu/factors.h"
#include "tests/unit/worker/limited_device.h"
#include "worker/nn/model.h"

namespace lockstep::conformance {
namespace {

constexpr int64_t kRows = 12;
constexpr int64_t kClasses = 5;

// With branches that meet, pooling of both kinds, a bias with a function behind a convolution, and a copy of the
// samples.
const char kResidual[] = R"pb(
  layers { conv2d { filters: 8 kernel_size: 3 padding: PADDING_SAME use_bias: false } }
  layers { batch_normalization {} }
  layers { tanh {} }
  layers {
    name: 'stem'
    max_pooling2d { pool_size: 2 }
  }
  layers { conv2d { filters: 16 kernel_size: 3 padding: PADDING_SAME activation: 'tanh' } }
  layers { conv2d { filters: 8 kernel_size: 3 padding: PADDING_SAME use_bias: false } }
  layers {
    name: 'deep'
    batch_normalization {}
  }
  layers {
    name: 'sum'
    add {}
    inputs: 'deep'
    inputs: 'stem'
  }
  layers { tanh {} }
  layers { average_pooling2d {} }
  layers { conv2d { filters: 16 kernel_size: 1 strides: 2 use_bias: false } }
  layers { global_average_pooling2d {} }
  layers { dense { units: 5 } }
)pb";
std::string Residual(const std::string& activation, const std::string& norm = "") {
  return absl::StrReplaceAll(kResidual, {{"tanh", activation}, {"zation {}", "zation { " + norm + " }"}});
}

class HalfImagesModel : public testing::TestWithParam<Kind> {
 protected:
  std::unique_ptr<Model> Make(const std::string& layers, DType type, ProductPrecision precision, int shards = 1) {
    Violations violations;
    plan_ = PlanModel(FromText<v1::ModelSpec>(layers), Shape{3, 12, 12}, violations);
    for (const Violation& v : violations.list()) ADD_FAILURE() << v.field << " " << v.description;
    auto model = Model::Create(&device_, plan_, FromText<v1::LossSpec>(kLoss), type, kRows, {}, shards, precision);
    EXPECT_TRUE(model.ok()) << model.status();
    (*model)->Initialize(3);
    return std::move(*model);
  }
  Batch Samples(DType type, int64_t rows = kRows, uint64_t stream = 1) {
    return {arrays_.Random({rows, 3, 12, 12}, type, stream), arrays_.Labels(rows, kClasses), rows};
  }
  struct Result {
    double loss = 0, judged = 0;
    Tensor gradient;
  };
  Result Run(Model& model, const Batch& batch) {
    const Tensor gradient = arrays_.Zeros(model.parameters().shape, model.parameters().type);
    const Tensor again = arrays_.Zeros(gradient.shape, gradient.type);
    const Tensor stats = arrays_.Zeros({1}, DType::kF64), judged = arrays_.Zeros({1}, DType::kF64);
    model.ForwardBackward({.training = true}, batch, 1, gradient, stats, nullptr);
    model.Evaluate(batch, judged);
    // And back again.
    model.ForwardBackward({.training = true}, batch, 1, again, arrays_.Zeros({1}, DType::kF64), nullptr);
    EXPECT_TRUE(SameBits(gradient, again));
    return {Get(stats, 0), Get(judged, 0), gradient};
  }
  static double Distance(const Tensor& found, const Tensor& want) {
    double error = 0, size = 0;
    for (int64_t i = 0; i < want.elements(); ++i) {
      error += std::pow(Get(found, i) - Get(want, i), 2);
      size += std::pow(Get(want, i), 2);
    }
    return std::sqrt(error / size);
  }

  static constexpr const char* kLoss = "sparse_categorical_crossentropy { from_logits: true }";
  LimitedDevice device_{MakeTestDevice(), INT64_MAX};
  Arrays arrays_{&device_};
  ModelPlan plan_;
};

// Smooth functions, so that a rounding moves them a little and never decides who passes.
TEST_P(HalfImagesModel, IsNearItsOwnInDouble) {
  const std::string layers = Residual("tanh");
  const std::unique_ptr<Model> halves = Make(layers, DType::kF32, GetParam().precision);
  const Result found = Run(*halves, Samples(DType::kF32));
  const std::unique_ptr<Model> doubles = Make(layers, DType::kF64, ProductPrecision::kFloat);
  const Result want = Run(*doubles, Samples(DType::kF64));
  // The moving statistics ride in the gradient, and are as large as the images.
  const double rounding = GetParam().rounding;
  EXPECT_NEAR(found.judged, want.judged, kRows * 1e-5);
  EXPECT_NE(found.loss, want.loss);
  // Thirteen outputs in a row are each rounded once, and so are their kernels.
  EXPECT_NEAR(found.loss, want.loss, kRows * 13 * rounding);
  // And their gradients on the way back.
  EXPECT_LT(Distance(found.gradient, want.gradient), 2 * 13 * rounding);
}

TEST_P(HalfImagesModel, NormalisesOverSeveralShards) {
  class OneRank final : public ShardSum {
    absl::Status Sum(std::span<const double> shards, std::span<double> total) override {
      for (size_t i = 0; i < total.size(); ++i) total[i] = shards[i] + shards[total.size() + i];
      return absl::OkStatus();
    }
  } sum;
  const auto run = [&](DType type, ProductPrecision precision) {
    const std::unique_ptr<Model> model = Make(Residual("tanh", "synchronized: true"), type, precision, 2);
    std::vector<ShardTask> shards;
    for (const uint64_t stream : {1, 2}) {
      shards.push_back({Samples(type, kRows, stream), 0, arrays_.Zeros(model->parameters().shape, type),
                        arrays_.Zeros({1}, DType::kF64)});
    }
    EXPECT_TRUE(model->ForwardBackwardTogether({.training = true, .batch_rows = 2 * kRows}, shards, 1, sum).ok());
    device_.Add(shards[0].gradient, shards[1].gradient, shards[0].gradient);
    return Result{Get(shards[0].stats, 0) + Get(shards[1].stats, 0), 0, shards[0].gradient};
  };
  const Result found = run(DType::kF32, GetParam().precision), want = run(DType::kF64, ProductPrecision::kFloat);
  EXPECT_NEAR(found.loss, want.loss, 2 * kRows * 13 * GetParam().rounding);
  EXPECT_LT(Distance(found.gradient, want.gradient), 2 * 13 * GetParam().rounding);
}

TEST_P(HalfImagesModel, Learns) {
  const std::unique_ptr<Model> model = Make(Residual("relu"), DType::kF32, GetParam().precision);
  const Batch batch = Samples(DType::kF32);
  const Tensor gradient = arrays_.Zeros(model->parameters().shape, DType::kF32);
  std::vector<double> losses;
  for (int step = 0; step < 40; ++step) {
    const Tensor stats = arrays_.Zeros({1}, DType::kF64);
    model->ForwardBackward({.training = true}, batch, 1.0 / kRows, gradient, stats, nullptr);
    losses.push_back(Get(stats, 0) / kRows);
    model->UpdateMoving(gradient);
    for (int64_t i = 0; i < gradient.elements(); ++i) {
      Arrays::Set(model->parameters(), i, Get(model->parameters(), i) - 0.2 * Get(gradient, i));
    }
  }
  // Twelve samples of noise with five labels are learnt by heart.
  EXPECT_GT(losses.front(), 1.0);
  EXPECT_LT(losses.back(), 0.1);
}

// The emulated convolution and the real one put out what 16 bits may not hold.
TEST_P(HalfImagesModel, SaysWhichLayerOverflows) {
  const std::unique_ptr<Model> model = Make(Residual("relu"), DType::kF32, GetParam().precision);
  for (const ParameterView& view : model->parameter_views()) {
    if (view.name != "conv2d_1/kernel") continue;
    for (int64_t i = 0; i < view.shape.elements(); ++i) Arrays::Set(model->parameters(), view.offset + i, 3000);
  }
  const Tensor gradient = arrays_.Zeros(model->parameters().shape, DType::kF32);
  const Batch batch = Samples(DType::kF32);
  model->ForwardBackward({.training = true}, batch, 1, gradient, arrays_.Zeros({1}, DType::kF64), nullptr);
  const int64_t place = model->FirstNonFinite(0, batch, true, gradient, arrays_.Zeros({1}, DType::kF64));
  const bool overflows = GetParam().type == DType::kF16;
  EXPECT_EQ(model->PlaceName(place), overflows ? "the output of conv2d_1" : "nothing");
}

// What is planned, and besides the copies where layouts meet: of the samples, and before the dense layer.
TEST_P(HalfImagesModel, TakesTheMemoryThatIsPlanned) {
  v1::JobSpec job;
  JobPlan plan;
  *job.mutable_loss() = FromText<v1::LossSpec>(kLoss);
  job.mutable_training()->set_batch_size(kEvaluationRows);
  job.mutable_resources()->set_device(v1::DEVICE_CUDA);
  Violations violations;
  for (const bool dense : {false, true}) {
    SCOPED_TRACE(dense ? "dense layers" : "images");
    const std::string layers = dense
                                   ? "layers { flatten {} } layers { dense { units: 24 activation: 'relu' } } "
                                     "layers { dense { units: 16 activation: 'tanh' } } layers { dense { units: 16 } } "
                                     "layers { dense { units: 5 } }"
                                   : Residual("relu");
    plan.model = PlanModel(FromText<v1::ModelSpec>(layers), Shape{3, 12, 12}, violations);
    plan.dataset = {.sample = Shape{3, 12, 12}, .train_samples = kEvaluationRows, .test_samples = 0, .classes = 5};
    plan.logical_shards = 1;
    const auto planned = [&](v1::Precision precision) {
      job.mutable_training()->set_precision(precision);
      return PlanMemory(job, plan, 0, 1);
    };
    const MemoryPlan of_halves =
        planned(GetParam().type == DType::kBF16 ? v1::PRECISION_MIXED_BFLOAT16 : v1::PRECISION_MIXED_FLOAT16);
    const MemoryPlan of_floats = planned(v1::PRECISION_FLOAT32);
    EXPECT_LT(of_halves.activations, of_floats.activations * (dense ? 0.9 : 0.55));
    const int64_t before = device_.allocated();
    const auto model =
        Model::Create(&device_, plan.model, job.loss(), DType::kF32, kEvaluationRows, {}, 1, GetParam().precision);
    ASSERT_TRUE(model.ok()) << model.status();
    // Copies: the samples in floats, since they have no gradient; and 16 numbers with theirs.
    const int64_t copies = dense ? 0 : kEvaluationRows * (3 * 12 * 12 * 4 + 16 * 2 * 2);
    EXPECT_EQ(device_.allocated() - before, of_halves.parameters + of_halves.activations + copies);
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, HalfImagesModel, testing::ValuesIn(kKinds),
                         [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace lockstep::conformance
