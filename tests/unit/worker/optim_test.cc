// SPDX-License-Identifier: Apache-2.0
// Optimizers against sequences worked out by hand from the formulas in optimizer.proto.
#include <gtest/gtest.h>

#include <cmath>

#include "google/protobuf/util/json_util.h"
#include "worker/optim/optimizer.h"

namespace lockstep {
namespace {

v1::OptimizerSpec Spec(const std::string& json) {
  v1::OptimizerSpec spec;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(json, &spec).ok());
  return spec;
}

// Minimises w^2 / 2 from w = 1, so that the gradient is w; returns w after each step.
std::vector<double> Descend(const std::string& json, int steps) {
  auto device = MakeCpuDevice(1);
  auto optimizer = MakeOptimizer(Spec(json), *device, 1, DType::kF64).value();
  double w = 1, g = 0;
  const Tensor parameters{&w, Shape{1}, DType::kF64}, gradient{&g, Shape{1}, DType::kF64};
  std::vector<double> path;
  for (int step = 0; step < steps; ++step) {
    g = w;
    optimizer->Step(*device, parameters, gradient, optimizer->base_learning_rate(), step);
    path.push_back(w);
  }
  return path;
}

void ExpectPath(const std::vector<double>& path, const std::vector<double>& expected) {
  ASSERT_EQ(path.size(), expected.size());
  for (size_t i = 0; i < path.size(); ++i) EXPECT_NEAR(path[i], expected[i], 1e-14) << "step " << i;
}

TEST(SgdTest, HandComputed) {
  // w <- w - 0.1 w = 0.9 w.
  ExpectPath(Descend(R"({"sgd": {"learning_rate": 0.1}})", 3), {0.9, 0.81, 0.729});
}

TEST(SgdTest, Momentum) {
  // v1 = -0.1, w1 = 0.9; v2 = 0.9 (-0.1) - 0.09 = -0.18, w2 = 0.72; v3 = -0.162 - 0.072 = -0.234, w3 = 0.486.
  ExpectPath(Descend(R"({"sgd": {"learning_rate": 0.1, "momentum": 0.9}})", 3), {0.9, 0.72, 0.486});
}

TEST(SgdTest, Nesterov) {
  // v1 = -0.1, w1 = 1 + 0.9 (-0.1) - 0.1 = 0.81; v2 = -0.09 - 0.081 = -0.171,
  // w2 = 0.81 + 0.9 (-0.171) - 0.081 = 0.5751.
  ExpectPath(Descend(R"({"sgd": {"learning_rate": 0.1, "momentum": 0.9, "nesterov": true}})", 2), {0.81, 0.5751});
}

TEST(AdamTest, TheFirstStepIsTheLearningRate) {
  // m = 0.1 g, v = 0.001 g^2; the step is lr sqrt(0.001) / 0.1 * 0.1 / (sqrt(0.001) + eps).
  const double eps = 1e-7, s = std::sqrt(0.001);
  ExpectPath(Descend(R"({"adam": {"learning_rate": 0.001}})", 1), {1 - 0.001 * s / (s + eps)});
}

TEST(AdamTest, SecondStepByTheFormula) {
  const double lr = 0.1, b1 = 0.5, b2 = 0.75, eps = 0.25;
  const double m1 = 0.5, v1 = 0.25;
  const double w1 = 1 - lr * std::sqrt(1 - b2) / (1 - b1) * m1 / (std::sqrt(v1) + eps);
  const double m2 = b1 * m1 + (1 - b1) * w1, v2 = b2 * v1 + (1 - b2) * w1 * w1;
  const double w2 = w1 - lr * std::sqrt(1 - b2 * b2) / (1 - b1 * b1) * m2 / (std::sqrt(v2) + eps);
  ExpectPath(Descend(R"({"adam": {"learning_rate": 0.1, "beta_1": 0.5, "beta_2": 0.75, "epsilon": 0.25}})", 2),
             {w1, w2});
}

TEST(OptimizerTest, StateIsWhatACheckpointNeeds) {
  auto device = MakeCpuDevice(1);
  const auto names = [&](const std::string& json) {
    std::vector<std::string> list;
    for (const auto& [name, tensor] : MakeOptimizer(Spec(json), *device, 32, DType::kF32).value()->State()) {
      EXPECT_EQ(tensor.elements(), 32);
      list.push_back(name);
    }
    return list;
  };
  EXPECT_TRUE(names(R"({"sgd": {}})").empty());
  EXPECT_EQ(names(R"({"sgd": {"momentum": 0.5}})"), std::vector<std::string>{"velocity"});
  EXPECT_EQ(names(R"({"adam": {}})"), (std::vector<std::string>{"m", "v"}));
}

TEST(OptimizerTest, MoreStateThanThereIsMemoryIsAnError) {
  auto device = MakeCpuDevice(1);
  EXPECT_EQ(MakeOptimizer(Spec(R"({"adam": {}})"), *device, int64_t{1} << 58, DType::kF32).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(ScheduleTest, ExponentialDecay) {
  v1::ScheduleSpec spec;
  EXPECT_EQ(LearningRate(spec, 0.1, 1000), 0.1);
  auto& decay = *spec.mutable_exponential_decay();
  decay.set_decay_steps(10);
  decay.set_decay_rate(0.5);
  EXPECT_DOUBLE_EQ(LearningRate(spec, 0.1, 0), 0.1);
  EXPECT_DOUBLE_EQ(LearningRate(spec, 0.1, 20), 0.025);
  EXPECT_DOUBLE_EQ(LearningRate(spec, 0.1, 5), 0.1 * std::sqrt(0.5));
  decay.set_staircase(true);
  EXPECT_DOUBLE_EQ(LearningRate(spec, 0.1, 19), 0.05);
}

}  // namespace
}  // namespace lockstep
