// SPDX-License-Identifier: Apache-2.0
// Twenty steps of LeNet-5 and of a ResNet-8, as PyTorch does them (make_training.py wrote training.json).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tests/conformance/arrays.h"
#include "tests/conformance/devices.h"
#include "tests/golden/draws.h"
#include "worker/nn/model.h"
#include "worker/optim/optimizer.h"

namespace lockstep {
namespace {

using conformance::Arrays;
using conformance::FromText;
using Json = nlohmann::json;

// Streams of draws, as in make_training.py.
constexpr uint32_t kParameters = 100, kImages = 1000, kLabels = 2000;
constexpr uint32_t kClasses = 10;

const Json& Golden() {
  static const Json golden = [] {
    std::ifstream file(std::string(std::getenv("LOCKSTEP_SOURCE_DIR")) + "/tests/golden/training.json");
    return Json::parse(file);
  }();
  return golden;
}

const Json& Named(const std::string& name) {
  const Json& runs = Golden()["runs"];
  return *std::ranges::find_if(runs, [&](const Json& run) { return run["name"] == name; });
}

// Where weights start: a kernel is uniform with a variance of 1 / (numbers that are summed). Floats, in both
// precisions.
float Initial(const ParameterPlan& p, uint32_t stream, uint32_t i) {
  if (p.name.ends_with("moving_mean")) return 0.0f;
  if (p.name.ends_with("moving_variance")) return 1.0f;
  const double draw = Draw(stream, i);
  if (!p.name.ends_with("kernel")) return static_cast<float>(draw * 0.1 + (p.name.ends_with("gamma") ? 1.0 : 0.0));
  const int64_t fan_in = p.shape.rank() == 2 ? p.shape[0] : p.shape.elements() / p.shape[0];
  return static_cast<float>(draw * std::sqrt(3.0 / static_cast<double>(fan_in)));
}

class Replay {
 public:
  Replay(const Json& fixture, DType type)
      : fixture_(fixture), rows_(fixture["rows"]), device_(conformance::MakeTestDevice()), arrays_(device_.get()) {
    const Shape input(fixture["input"].get<std::vector<int64_t>>());
    Violations violations;
    const ModelPlan plan = PlanModel(FromText<v1::ModelSpec>(fixture["model"]), input, violations);
    for (const Violation& v : violations.list()) ADD_FAILURE() << v.field << " " << v.description;
    model_ = Model::Create(device_.get(), plan,
                           FromText<v1::LossSpec>("sparse_categorical_crossentropy { from_logits: true }"), type, rows_)
                 .value();
    uint32_t stream = kParameters;
    for (const LayerPlan& layer : plan.layers) {
      for (const ParameterPlan& p : layer.parameters) {
        const auto view = std::ranges::find(model_->parameter_views(), p.name, &ParameterView::name);
        for (int64_t i = 0; i < p.shape.elements(); ++i) {
          Arrays::Set(model_->parameters(), view->offset + i, Initial(p, stream, static_cast<uint32_t>(i)));
        }
        ++stream;
      }
    }
    x_ = arrays_.Zeros(conformance::Batched(rows_, input), type);
    labels_ = arrays_.Zeros({rows_}, DType::kI32);
    gradient_ = arrays_.Zeros(model_->parameters().shape, type);
    stats_ = arrays_.Zeros({model_->stats_width()}, DType::kF64);
    optimizer_ =
        MakeOptimizer(
            FromText<v1::OptimizerSpec>(absl::StrCat("sgd { learning_rate: ", fixture["learning_rate"].get<double>(),
                                                     " momentum: ", fixture["momentum"].get<double>(), " }")),
            *device_, gradient_.elements(), type)
            .value();
  }

  // The loss before the step.
  double Step(int64_t step) {
    const auto batch = static_cast<uint32_t>(step % fixture_["batches"].get<int64_t>());
    const int64_t cell = fixture_["cell"], height = x_.shape[2], width = x_.shape[3];
    for (int64_t i = 0; i < x_.elements(); ++i) {
      const int64_t plane = i / width / height, row = i / width % height / cell, column = i % width / cell;
      const int64_t place = (plane * (height / cell) + row) * (width / cell) + column;
      Arrays::Set(x_, i, Draw(kImages + batch, static_cast<uint32_t>(place)));
    }
    for (int64_t i = 0; i < rows_; ++i) {
      const uint32_t word = DrawWord(kLabels + batch, static_cast<uint32_t>(i));
      labels_.as<int32_t>()[i] = static_cast<int32_t>(word % kClasses);
    }
    device_->Fill(stats_, 0);
    model_->ForwardBackward({.training = true, .step = step}, {x_, labels_, rows_}, 1.0 / static_cast<double>(rows_),
                            gradient_, stats_, nullptr);
    model_->UpdateMoving(gradient_);
    optimizer_->Step(*device_, model_->parameters(), gradient_, optimizer_->base_learning_rate(), step);
    return stats_.as<double>()[0] / static_cast<double>(rows_);
  }

 private:
  const Json& fixture_;
  const int64_t rows_;
  std::unique_ptr<Device> device_;
  Arrays arrays_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Optimizer> optimizer_;
  Tensor x_, labels_, gradient_, stats_;
};

class GoldenTraining : public testing::TestWithParam<const char*> {};

TEST_P(GoldenTraining, TwentyLossesAreThoseOfPyTorch) {
  const Json& fixture = Named(GetParam());
  Replay replay(fixture, DType::kF32);
  ASSERT_EQ(fixture["losses"].size(), 20u);
  for (int64_t step = 0; step < 20; ++step) {
    const double expected = fixture["losses"][static_cast<size_t>(step)];
    EXPECT_NEAR(replay.Step(step), expected, 1e-4 * expected) << fixture["name"] << ", step " << step;
  }
}

// Without rounding that could hide a small fault: a hundred thousand roundoffs are left.
TEST_P(GoldenTraining, TheFirstLossesAreTheSameInDouble) {
  const Json& fixture = Named(GetParam());
  Replay replay(fixture, DType::kF64);
  for (int64_t step = 0; step < 3; ++step) {
    const double expected = fixture["losses"][static_cast<size_t>(step)];
    EXPECT_NEAR(replay.Step(step), expected, 2e-11 * expected) << fixture["name"] << ", step " << step;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTraining, testing::Values("LeNet5", "ResNet8"),
                         [](const auto& p) { return std::string(p.param); });

}  // namespace
}  // namespace lockstep
