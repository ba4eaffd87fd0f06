// SPDX-License-Identifier: Apache-2.0
// Losses by PyTorch (make_losses.py) and metrics by NumPy (make_metrics.py) against ours.
#include <gtest/gtest.h>

#include <cfloat>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "google/protobuf/util/json_util.h"
#include "nlohmann/json.hpp"
#include "tests/conformance/devices.h"
#include "worker/device/device.h"
#include "worker/nn/objective.h"

namespace lockstep {
namespace {

using Json = nlohmann::json;

Json Fixture(const std::string& name) {
  std::ifstream file(std::string(std::getenv("LOCKSTEP_SOURCE_DIR")) + "/tests/golden/" + name);
  return Json::parse(file);
}

// The outputs and targets of a fixture on the device, and what is made of them.
template <typename T>
struct Golden {
  static constexpr DType kType = sizeof(T) == 8 ? DType::kF64 : DType::kF32;

  explicit Golden(const Json& fixture) : device(conformance::MakeTestDevice()) {
    rows = static_cast<int64_t>(fixture["output"].size());
    for (const Json& row : fixture["output"]) {
      for (const Json& value : row) output.push_back(static_cast<T>(value.get<double>()));
    }
    width = static_cast<int64_t>(output.size()) / rows;
    v1::JobSpec spec;
    Json json{{"loss", fixture["loss"]}};
    if (fixture.contains("metrics")) json["metrics"] = fixture["metrics"];
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(json.dump(), &spec).ok());
    objective = std::make_unique<Objective>(ModelPlan{}, spec.loss(), PlanMetrics(spec, width));
    EXPECT_TRUE(objective->Prepare(*device).ok());
    gradient.resize(output.size());
    sums.resize(static_cast<size_t>(objective->width()));
    if (fixture["labels"].get<bool>()) {
      labels = fixture["target"].get<std::vector<int32_t>>();
      targets = {labels.data(), Shape{rows}, DType::kI32};
      return;
    }
    for (const Json& row : fixture["target"]) {
      for (const Json& value : row) values.push_back(static_cast<T>(value.get<double>()));
    }
    targets = {values.data(), Shape{rows, width}, kType};
  }

  void Compute() {
    objective->Compute(*device, {output.data(), Shape{rows, width}, kType}, targets, 1.0 / static_cast<double>(rows),
                       {gradient.data(), Shape{rows, width}, kType},
                       {sums.data(), Shape{objective->width()}, DType::kF64});
  }

  std::unique_ptr<Device> device;
  std::unique_ptr<Objective> objective;
  int64_t rows = 0, width = 0;
  std::vector<T> output, values, gradient;
  std::vector<int32_t> labels;
  std::vector<double> sums;
  Tensor targets;
};

// Both sides compute in double; sums are at most 60 long.
constexpr double kDouble = 1000 * DBL_EPSILON;

TEST(GoldenLossTest, ValuesAndGradients) {
  std::map<std::string, int> configurations;
  for (const Json& fixture : Fixture("losses.json")) {
    SCOPED_TRACE(fixture["loss"].dump());
    ++configurations[fixture["loss"].begin().key()];
    Golden<double> golden(fixture);
    golden.Compute();
    const double value = fixture["value"];
    EXPECT_NEAR(golden.sums[0] / static_cast<double>(golden.rows), value, kDouble * std::max(1.0, std::abs(value)));
    for (int64_t i = 0; i < golden.rows * golden.width; ++i) {
      const double expected = fixture["gradient"][i / golden.width][i % golden.width];
      EXPECT_NEAR(golden.gradient[i], expected, kDouble * std::max(1.0, std::abs(expected))) << i;
    }
  }
  const auto* oneof = v1::LossSpec::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < oneof->field_count(); ++i) {
    EXPECT_GE(configurations[oneof->field(i)->name()], 3) << oneof->field(i)->name();
  }
}

template <typename T>
void CheckMetrics(const Json& fixture, double tolerance) {
  Golden<T> golden(fixture);
  golden.Compute();
  const Scores scores = golden.objective->Score(golden.sums, golden.rows, /*training=*/true);
  for (const auto& [name, expected] : fixture["values"].items()) {
    const std::optional<double> value = scores.Find(name);
    ASSERT_TRUE(value.has_value()) << name;
    EXPECT_NEAR(*value, static_cast<double>(expected), tolerance) << name;
  }
  for (const MetricResult& result : scores.metrics) {
    if (result.name != "confusion_matrix") continue;
    EXPECT_EQ(result.matrix, fixture["matrix"].template get<std::vector<double>>());
  }
}

TEST(GoldenMetricTest, Values) {
  std::set<std::string> seen;
  for (const Json& fixture : Fixture("metrics.json")) {
    SCOPED_TRACE(fixture["loss"].dump());
    for (const auto& [name, value] : fixture["values"].items()) seen.insert(name);
    CheckMetrics<double>(fixture, kDouble * 10);
    // What is counted is the same to the last one; errors and perplexity are a few roundings off.
    CheckMetrics<float>(fixture, 100 * FLT_EPSILON);
  }
  const auto* oneof = v1::MetricSpec::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < oneof->field_count(); ++i) {
    const std::string& name = oneof->field(i)->name();
    // The gradient's norm is of no outputs.
    EXPECT_TRUE(seen.contains(name) || name == "gradient_norm") << name;
  }
}

}  // namespace
}  // namespace lockstep
