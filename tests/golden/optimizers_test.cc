// SPDX-License-Identifier: Apache-2.0
// Optimizers and schedules against PyTorch and NumPy (make_optimizers.py wrote optimizers.json).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "google/protobuf/util/json_util.h"
#include "nlohmann/json.hpp"
#include "tests/conformance/devices.h"
#include "tests/conformance/tolerance.h"
#include "worker/device/device.h"
#include "worker/optim/optimizer.h"
#include "worker/optim/plateau.h"
#include "worker/optim/schedule.h"

namespace lockstep {
namespace {

using Json = nlohmann::json;

const Json& Golden() {
  static const Json golden = [] {
    std::ifstream file(std::string(std::getenv("LOCKSTEP_SOURCE_DIR")) + "/tests/golden/optimizers.json");
    return Json::parse(file);
  }();
  return golden;
}

template <typename Message>
Message Parse(const Json& json) {
  Message message;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(json.dump(), &message).ok()) << json;
  return message;
}

// Each number is worked out in double from about ten rounded terms a step, here and there, and carried on.
double GoldenTolerance(int64_t steps) { return conformance::Tolerance(DType::kF64, 20 * steps); }

// The fixture's tensors in one flat array, each on a line of its own, with zeros between.
class FlatTensors {
 public:
  explicit FlatTensors(const Json& fixture) {
    for (const auto& [name, values] : fixture["start"].items()) {
      OptimizedTensor t{.name = name, .offset = size_, .elements = static_cast<int64_t>(values.size())};
      if (fixture.contains("penalties")) {
        t.l1 = fixture["penalties"][name][0];
        t.l2 = fixture["penalties"][name][1];
      }
      tensors.push_back(t);
      size_ += 16;
    }
  }
  std::vector<double> Flat(const Json& values) const {
    std::vector<double> flat(static_cast<size_t>(size_), 0.0);
    for (const OptimizedTensor& t : tensors) {
      std::ranges::copy(values[t.name].get<std::vector<double>>(), flat.begin() + t.offset);
    }
    return flat;
  }
  static Tensor View(std::vector<double>& v) { return {v.data(), Shape{static_cast<int64_t>(v.size())}, DType::kF64}; }

  std::vector<OptimizedTensor> tensors;

 private:
  int64_t size_ = 0;
};

void ExpectNear(const std::vector<double>& got, const std::vector<double>& expected, int64_t steps) {
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_LE(conformance::RelativeError(got[i], expected[i]), GoldenTolerance(steps))
        << "step " << steps << " element " << i << ": " << got[i] << ", not " << expected[i];
  }
}

void Replay(const Json& fixture) {
  SCOPED_TRACE(fixture["name"].get<std::string>());
  const auto device = conformance::MakeTestDevice();
  const FlatTensors flat(fixture);
  auto w = flat.Flat(fixture["start"]);
  const auto spec = Parse<v1::OptimizerSpec>(fixture["spec"]);
  const auto size = static_cast<int64_t>(w.size());
  const auto optimizer = MakeOptimizer(spec, *device, size, DType::kF64, flat.tensors).value();
  optimizer->Begin(*device, FlatTensors::View(w));
  ASSERT_EQ(fixture["path"].size(), 10u);
  for (int step = 0; step < 10; ++step) {
    auto gradient = flat.Flat(fixture["gradients"][step]);
    optimizer->Step(*device, FlatTensors::View(w), FlatTensors::View(gradient), optimizer->base_learning_rate(), step);
    ExpectNear(w, flat.Flat(fixture["path"][step]), step + 1);
    if (!fixture.contains("averages")) continue;
    optimizer->SwapAverage(*device, FlatTensors::View(w));
    ExpectNear(w, flat.Flat(fixture["averages"][step]), step + 1);
    optimizer->SwapAverage(*device, FlatTensors::View(w));
  }
}

TEST(GoldenOptimizersTest, TenStepsOfEveryOptimizer) {
  std::map<std::string, int> configurations;
  for (const Json& fixture : Golden()["optimizers"]) {
    Replay(fixture);
    const auto spec = Parse<v1::OptimizerSpec>(fixture["spec"]);
    const auto* kind =
        spec.GetReflection()->GetOneofFieldDescriptor(spec, v1::OptimizerSpec::descriptor()->FindOneofByName("kind"));
    ++configurations[kind->name()];
  }
  const auto* oneof = v1::OptimizerSpec::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < oneof->field_count(); ++i) {
    EXPECT_GE(configurations[oneof->field(i)->name()], 3) << oneof->field(i)->name();
  }
}

TEST(GoldenSchedulesTest, EveryStepsRate) {
  std::set<std::string> kinds;
  for (const Json& fixture : Golden()["schedules"]) {
    const auto spec = Parse<v1::ScheduleSpec>(fixture["spec"]);
    for (const auto& [kind, value] : fixture["spec"].items()) kinds.insert(kind);
    for (size_t step = 0; step < fixture["rates"].size(); ++step) {
      const double expected = fixture["rates"][step];
      // PyTorch reaches some rates from the one before, a rounding for each step.
      EXPECT_NEAR(LearningRate(spec, Golden()["base"], static_cast<int64_t>(step)), expected,
                  GoldenTolerance(static_cast<int64_t>(step) + 1))
          << fixture["spec"] << " step " << step;
    }
  }
  kinds.insert("reduce_on_plateau");
  const auto* oneof = v1::ScheduleSpec::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < oneof->field_count(); ++i) EXPECT_TRUE(kinds.contains(oneof->field(i)->name()));
}

TEST(GoldenSchedulesTest, ReduceOnPlateau) {
  int reduced = 0;
  for (const Json& fixture : Golden()["plateaus"]) {
    v1::ScheduleSpec spec;
    *spec.mutable_reduce_on_plateau() = Parse<v1::ReduceOnPlateauSchedule>(fixture["spec"]);
    PlateauState state;
    for (size_t i = 0; i < fixture["values"].size(); ++i) {
      ObservePlateau(spec.reduce_on_plateau(), fixture["values"][i], fixture["higher_is_better"], state);
      EXPECT_NEAR(LearningRate(spec, 0.5, 0, static_cast<int64_t>(state.reductions)), fixture["rates"][i].get<double>(),
                  GoldenTolerance(1))
          << fixture["spec"] << " epoch " << i;
    }
    reduced += static_cast<int>(state.reductions);
  }
  EXPECT_GT(reduced, 5);
}

}  // namespace
}  // namespace lockstep
