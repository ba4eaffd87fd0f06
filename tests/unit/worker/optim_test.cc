// SPDX-License-Identifier: Apache-2.0
// Optimizers against sequences worked out by hand from the formulas in optimizer.proto.
#include <gtest/gtest.h>

#include <cmath>

#include "google/protobuf/util/json_util.h"
#include "worker/optim/optimizer.h"
#include "worker/optim/plateau.h"
#include "worker/optim/schedule.h"
#include "worker/optim/slices.h"

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

TEST(ScheduleTest, WarmsUpToTheFirstRate) {
  v1::ScheduleSpec spec;
  spec.set_warmup_steps(4);
  spec.mutable_step_decay()->set_step_size(2);
  const double expected[] = {0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.05};
  for (int step = 0; step < 7; ++step) EXPECT_DOUBLE_EQ(LearningRate(spec, 0.5, step), expected[step]) << step;
}

// Right at each restart the rate is the height again, for growths whose logarithm rounds either way.
TEST(ScheduleTest, RestartsAtTheVeryStep) {
  for (const double growth : {1.0, 1.5, 2.0, 3.0}) {
    v1::ScheduleSpec spec;
    auto& cosine = *spec.mutable_cosine_decay_restarts();
    cosine.set_first_decay_steps(16);
    cosine.set_t_mul(growth);
    double start = 0, period = 16;
    for (int i = 0; i < 12 && period == std::floor(period); ++i) {
      EXPECT_DOUBLE_EQ(LearningRate(spec, 1.0, static_cast<int64_t>(start)), 1.0) << growth << " period " << i;
      if (start > 0) {
        EXPECT_LT(LearningRate(spec, 1.0, static_cast<int64_t>(start) - 1), 0.02) << growth;
      }
      start += period;
      period *= growth;
    }
  }
}

TEST(ScheduleTest, IsFiniteAndPositiveHoweverLongTrainingIs) {
  for (const char* json :
       {R"({"exponential_decay": {"decay_steps": 1, "decay_rate": 0.5}})", R"({"step_decay": {"step_size": 1}})",
        R"({"polynomial_decay": {"decay_steps": 3}})", R"({"cosine_decay": {"decay_steps": 3}})",
        R"({"cosine_decay_restarts": {"first_decay_steps": 1, "t_mul": 1.0000001}})",
        R"({"one_cycle": {"total_steps": 2, "pct_start": 0.5}})", R"({"warmup_steps": 9007199254740992})"}) {
    v1::ScheduleSpec spec;
    ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(json, &spec).ok());
    for (const int64_t step : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{1000}, int64_t{1} << 53}) {
      const double rate = LearningRate(spec, 0.1, step);
      EXPECT_TRUE(rate >= 0 && rate <= 0.1) << json << " step " << step << ": " << rate;
    }
  }
}

TEST(MonitorTest, ANaNIsNeverBetter) {
  MonitorState state;
  EXPECT_FALSE(Observe(NAN, false, 0, state));
  EXPECT_TRUE(Observe(INFINITY, false, 0, state));
  EXPECT_FALSE(Observe(INFINITY, false, 0, state));
  EXPECT_TRUE(Observe(2, false, 0, state));
  EXPECT_FALSE(Observe(NAN, false, 0, state));
  EXPECT_FALSE(Observe(1.75, false, 0.25, state));
  EXPECT_EQ(state.waited, 2);
  EXPECT_EQ(state.best, 2);
  EXPECT_TRUE(Observe(3, true, 0, state));
}

TEST(SlicesTest, NeighboursOfOneKindAreOne) {
  std::vector<OptimizedTensor> tensors{{"a/kernel", 0, 20}, {"a/bias", 32, 4}, {"b/kernel", 48, 16}, {"b/bias", 64, 1}};
  const auto slices = [&](const std::string& json, double decay = 0, bool each = false) {
    std::vector<std::pair<int64_t, int64_t>> list;
    for (const Slice& s : MakeSlices(tensors, Spec(json), decay, each)) list.push_back({s.offset, s.elements});
    return list;
  };
  using Pairs = std::vector<std::pair<int64_t, int64_t>>;
  const Pairs all{{0, 65}}, each{{0, 20}, {32, 4}, {48, 16}, {64, 1}};
  EXPECT_EQ(slices("{}"), all);
  EXPECT_EQ(slices(R"({"weight_decay": 0.1})"), all);
  EXPECT_EQ(slices("{}", 0, true), each);
  EXPECT_EQ(slices(R"({"weight_decay": 0.1, "weight_decay_exclude": ["*/bias"]})"), each);
  // Without a decay there is nothing to be excluded from.
  EXPECT_EQ(slices(R"({"weight_decay_exclude": ["*/bias"]})"), all);
  EXPECT_EQ(slices(R"({"weight_decay_exclude": ["*/bias"]})", 0.004), each);
  tensors[1].trainable = false;
  EXPECT_EQ(slices("{}"), (Pairs{{0, 20}, {48, 17}}));
  tensors[2].l1 = 0.5;
  EXPECT_EQ(slices("{}"), (Pairs{{0, 20}, {48, 16}, {64, 1}}));
}

// A step that is left out adds nothing to the sum, and the update is still done on time.
TEST(PlainTest, OnlySgdWithNothingBesideItIsPlain) {
  auto device = MakeCpuDevice(1);
  const std::vector<OptimizedTensor> tensors = {
      {.name = "dense/kernel", .offset = 0, .elements = 32},
      {.name = "dense/bias", .offset = 32, .elements = 8},
      {.name = "frozen/kernel", .offset = 48, .elements = 32, .trainable = false},
      {.name = "last/kernel", .offset = 80, .elements = 32, .l2 = 0.1}};
  const auto plain = [&](const std::string& json, FlatPart part) {
    return MakeOptimizer(Spec(json), *device, 112, DType::kF32, tensors).value()->IsPlain(part);
  };
  const std::string sgd = R"({"sgd": {}})";
  EXPECT_TRUE(plain(sgd, {0, 32}));
  EXPECT_TRUE(plain(sgd, {8, 32}));
  // Frozen, penalised, and what is in part.
  EXPECT_FALSE(plain(sgd, {48, 32}));
  EXPECT_FALSE(plain(sgd, {80, 32}));
  EXPECT_FALSE(plain(sgd, {32, 32}));
  EXPECT_TRUE(plain(R"({"sgd": {}, "weight_decay": 0.1, "weight_decay_exclude": "dense/*"})", {0, 32}));
  for (const char* other :
       {R"({"sgd": {"momentum": 0.9}})", R"({"sgd": {"momentum": 0.9, "nesterov": true}})", R"({"adam": {}})",
        R"({"sgd": {}, "weight_decay": 0.1})", R"({"sgd": {}, "clip_value": 1})", R"({"sgd": {}, "clip_norm": 1})",
        R"({"sgd": {}, "global_clip_norm": 1})", R"({"sgd": {}, "use_ema": true})",
        R"({"sgd": {}, "gradient_accumulation_steps": 2})", R"({"lamb": {}})", R"({"lars": {}})"}) {
    EXPECT_FALSE(plain(other, {0, 32})) << other;
  }
}

TEST(AccumulationTest, ASkippedStepCountsAsZero) {
  auto device = MakeCpuDevice(1);
  auto optimizer =
      MakeOptimizer(Spec(R"({"sgd": {"learning_rate": 1}, "gradient_accumulation_steps": 2})"), *device, 1, DType::kF64)
          .value();
  double w = 1, g = 0.5;
  const Tensor parameters{&w, Shape{1}, DType::kF64}, gradient{&g, Shape{1}, DType::kF64};
  optimizer->Step(*device, parameters, gradient, 1, 0);
  EXPECT_EQ(w, 1);
  g = NAN;
  optimizer->Skip(*device, parameters, gradient, 1, 1);
  EXPECT_EQ(w, 0.75);
  auto plain = MakeOptimizer(Spec(R"({"sgd": {"momentum": 0.9}})"), *device, 1, DType::kF64).value();
  g = NAN;
  plain->Skip(*device, parameters, gradient, 1, 0);
  EXPECT_EQ(w, 0.75);
}

}  // namespace
}  // namespace lockstep
