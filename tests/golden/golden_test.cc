// SPDX-License-Identifier: Apache-2.0
// Values from PyTorch (make_golden.py wrote golden.json) against ours.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

#include "common/model/model_plan.h"
#include "google/protobuf/util/json_util.h"
#include "nlohmann/json.hpp"
#include "tests/conformance/devices.h"
#include "worker/device/device.h"
#include "worker/nn/model.h"
#include "worker/optim/optimizer.h"

namespace lockstep {
namespace {

using Json = nlohmann::json;

const Json& Golden() {
  static const Json golden = [] {
    std::ifstream file(std::string(std::getenv("LOCKSTEP_SOURCE_DIR")) + "/tests/golden/golden.json");
    return Json::parse(file);
  }();
  return golden;
}

template <typename Message>
Message Parse(const Json& json) {
  Message message;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(json.dump(), &message).ok());
  return message;
}

// A model with the fixture's weights, in the given precision.
template <typename T>
class GoldenModel {
 public:
  static constexpr DType kType = sizeof(T) == 8 ? DType::kF64 : DType::kF32;

  explicit GoldenModel(const Json& fixture)
      : device(conformance::MakeTestDevice()), rows_(fixture["rows"]), inputs_(fixture["inputs"]) {
    Violations violations;
    const ModelPlan plan =
        PlanModel(Parse<v1::ModelSpec>(Json{{"layers", fixture["layers"]}}), Shape{inputs_}, violations);
    EXPECT_TRUE(violations.empty());
    model = Model::Create(device.get(), plan, Parse<v1::LossSpec>(fixture["loss"]), kType, rows_).value();
    for (size_t i = 0; i < model->parameter_views().size(); ++i) {
      const ParameterView& view = model->parameter_views()[i];
      const auto values = fixture["parameters"][i].get<std::vector<double>>();
      EXPECT_EQ(static_cast<int64_t>(values.size()), view.shape.elements());
      std::ranges::copy(values, model->parameters().template as<T>() + view.offset);
    }
    gradient.resize(static_cast<size_t>(model->parameters().elements()));
  }

  // The mean loss; fills `gradient`.
  double Compute(const Json& x_json, const Json& target_json) {
    const auto x64 = x_json.get<std::vector<double>>();
    std::vector<T> x(x64.begin(), x64.end());
    std::vector<int32_t> labels;
    std::vector<T> values;
    Tensor targets;
    if (model->loss().classification()) {
      labels = target_json.get<std::vector<int32_t>>();
      targets = {labels.data(), Shape{rows_}, DType::kI32};
    } else {
      const auto t = target_json.get<std::vector<double>>();
      values.assign(t.begin(), t.end());
      targets = {values.data(), Shape{rows_, static_cast<int64_t>(t.size()) / rows_}, kType};
    }
    double stats[4] = {};
    const Batch batch{{x.data(), Shape{rows_, inputs_}, kType}, targets, rows_};
    model->ForwardBackward({.device = device.get(), .training = true}, batch, 1.0 / static_cast<double>(rows_),
                           Gradient(), {stats, Shape{model->stats_width()}, DType::kF64}, nullptr);
    return stats[0] / static_cast<double>(rows_);
  }
  Tensor Gradient() { return {gradient.data(), model->parameters().shape, kType}; }

  std::unique_ptr<Device> device;
  std::unique_ptr<Model> model;
  std::vector<T> gradient;

 private:
  int64_t rows_;
  int64_t inputs_;
};

// Both sides compute in double; sums are at most 7 long, so a thousand roundoffs leave room for the
// functions and nothing else.
constexpr double kDouble = 1000 * 1.2e-16;

TEST(GoldenTest, LossesAndGradients) {
  EXPECT_GE(Golden()["gradients"].size(), 9u);
  for (const Json& fixture : Golden()["gradients"]) {
    SCOPED_TRACE(fixture["name"].get<std::string>());
    GoldenModel<double> golden(fixture);
    EXPECT_NEAR(golden.Compute(fixture["x"], fixture["target"]), fixture["loss_value"].get<double>(), kDouble);
    for (size_t i = 0; i < golden.model->parameter_views().size(); ++i) {
      const ParameterView& view = golden.model->parameter_views()[i];
      const auto expected = fixture["gradients"][i].get<std::vector<double>>();
      for (size_t j = 0; j < expected.size(); ++j) {
        EXPECT_NEAR(golden.gradient[static_cast<size_t>(view.offset) + j], expected[j], kDouble) << view.name << j;
      }
    }
  }
}

TEST(GoldenTest, TwentyStepsOfTraining) {
  const Json& fixture = Golden()["replay"];
  GoldenModel<float> golden(fixture);
  auto optimizer = MakeOptimizer(Parse<v1::OptimizerSpec>(fixture["optimizer"]), *golden.device,
                                 static_cast<int64_t>(golden.gradient.size()), DType::kF32)
                       .value();
  for (int step = 0; step < 20; ++step) {
    const Json& batch = fixture["batches"][step];
    const double expected = fixture["losses"][step];
    EXPECT_NEAR(golden.Compute(batch["x"], batch["target"]), expected, 1e-4 * expected) << "step " << step;
    optimizer->Step(*golden.device, golden.model->parameters(), golden.Gradient(), optimizer->base_learning_rate(),
                    step);
  }
}

}  // namespace
}  // namespace lockstep
