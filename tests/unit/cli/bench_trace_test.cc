// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "cli/bench.h"
#include "nlohmann/json.hpp"

namespace lockstep::cli {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;

LayerTime Dense(const std::string& name, int64_t inputs, int64_t units, bool wants_input_gradient) {
  LayerTime layer{.name = name, .wants_input_gradient = wants_input_gradient};
  layer.plan.inputs = {Shape{inputs}};
  layer.plan.output = Shape{units};
  layer.plan.parameters = {{.name = name + "/kernel", .shape = Shape{inputs, units}}};
  return layer;
}

// Two steps of two layers and two shards; every part takes a third of a microsecond, so that none falls on a whole
// nanosecond.
StepProfile Profile() {
  StepProfile profile{.device = "cpu <test>",
                      .precision = "fp32",
                      .batch = 10,
                      .shards = 2,
                      .peak_gflops = 50,
                      .peak_gbytes = 10,
                      .update_bytes = 1000,
                      .sample_bytes = 16};
  profile.layers = {Dense("first", 4, 8, false), Dense("second", 8, 2, true)};
  const double third = 1e-6 / 3;
  double now = 0;
  for (int64_t number : {7, 8}) {
    StepTimes step{.step = number, .begin = now, .end = now, .parts = {}};
    const auto add = [&](StepPart part, int layer, int shard, int64_t rows) {
      step.parts.push_back({part, layer, shard, rows, now, now + third});
      now += third;
    };
    for (const int shard : {0, 1}) {
      add(StepPart::kData, -1, shard, 5);
      add(StepPart::kForward, 0, shard, 5);
      add(StepPart::kForward, 1, shard, 5);
      add(StepPart::kLoss, -1, shard, 5);
      add(StepPart::kBackward, 1, shard, 5);
      add(StepPart::kBackward, 0, shard, 5);
      add(StepPart::kGradientSum, -1, shard, 5);
    }
    add(StepPart::kUpdate, -1, 0, 10);
    step.end = now;
    profile.traced.push_back(step);
  }
  return profile;
}

int64_t Nanoseconds(const json& event, const char* what) { return std::llround(1000 * event[what].get<double>()); }

std::vector<json> Complete(const json& trace, const std::string& category = "") {
  std::vector<json> events;
  for (const json& event : trace["traceEvents"]) {
    if (event["ph"] == "X" && (category.empty() || event["cat"] == category)) events.push_back(event);
  }
  return events;
}

TEST(BenchTraceTest, EventsOfARowDoNotOverlapAndLieInTheirStep) {
  const json trace = json::parse(StepTrace(Profile()));
  std::map<int, int64_t> reached;
  std::map<int64_t, json> steps;
  for (const json& event : Complete(trace)) {
    EXPECT_EQ(event["pid"], 1);
    EXPECT_GE(Nanoseconds(event, "dur"), 0);
    int64_t& end = reached[event["tid"]];
    EXPECT_GE(Nanoseconds(event, "ts"), end) << event;
    end = Nanoseconds(event, "ts") + Nanoseconds(event, "dur");
    if (event["cat"] == "step") steps[event["args"]["step"]] = event;
    const json& step = steps.at(event["args"]["step"]);
    EXPECT_GE(Nanoseconds(event, "ts"), Nanoseconds(step, "ts"));
    EXPECT_LE(end, Nanoseconds(step, "ts") + Nanoseconds(step, "dur"));
  }
  EXPECT_EQ(steps.size(), 2u);
  EXPECT_EQ(reached.size(), 4u);
}

TEST(BenchTraceTest, PartsSumToTheirStep) {
  std::map<int64_t, int64_t> whole, parts;
  for (const json& event : Complete(json::parse(StepTrace(Profile())))) {
    (event["cat"] == "step" ? whole : parts)[event["args"]["step"]] += Nanoseconds(event, "dur");
  }
  // Boundaries are rounded, not lengths, so nothing is lost.
  EXPECT_EQ(whole, parts);
  EXPECT_EQ(whole.at(7), 5000);
}

TEST(BenchTraceTest, RowsAreNamed) {
  const json trace = json::parse(StepTrace(Profile()));
  std::vector<std::string> rows;
  for (const json& event : trace["traceEvents"]) {
    if (event["name"] == "thread_name") rows.push_back(event["args"]["name"]);
  }
  EXPECT_EQ(trace["traceEvents"][0]["name"], "process_name");
  EXPECT_EQ(trace["traceEvents"][0]["args"]["name"], "cpu <test>");
  EXPECT_THAT(rows, ElementsAre("steps", "data", "compute", "communication"));
  for (const auto& [category, row] :
       std::map<std::string, int>{{"step", 1}, {"data", 2}, {"forward", 3}, {"loss", 3}, {"gradient sum", 4}}) {
    for (const json& event : Complete(trace, category)) EXPECT_EQ(event["tid"], row) << event;
  }
}

TEST(BenchTraceTest, EventsSayWhatWasComputedAndMoved) {
  const json trace = json::parse(StepTrace(Profile()));
  const json forward = Complete(trace, "forward")[1];
  EXPECT_EQ(forward["name"], "second forward");
  const json& arguments = forward["args"];
  EXPECT_EQ(arguments["flops"], 2 * 5 * 8 * 2);
  EXPECT_EQ(arguments["bytes"], 4 * (5 * 8 + 8 * 2 + 5 * 2));
  EXPECT_NEAR(arguments["gflops_per_second"], 160 / (1000.0 / 3), 1e-9);
  EXPECT_NEAR(arguments["share_of_peak"], 160 / (1000.0 / 3) / 50, 1e-9);
  EXPECT_EQ(arguments["shapes"]["inputs"], json::array({"[5, 8]"}));
  EXPECT_EQ(arguments["shapes"]["output"], "[5, 2]");
  EXPECT_EQ(arguments["shapes"]["second/kernel"], "[8, 2]");
  // The gradient of the weights, and of the input where somebody wants it.
  EXPECT_EQ(Complete(trace, "backward")[0]["args"]["flops"], 2 * 2 * 5 * 8 * 2);
  EXPECT_EQ(Complete(trace, "backward")[1]["args"]["flops"], 2 * 5 * 4 * 8);
  EXPECT_EQ(Complete(trace, "data")[0]["args"]["bytes"], 5 * 16);
  EXPECT_EQ(Complete(trace, "update")[0]["args"]["bytes"], 1000);
  EXPECT_EQ(trace["otherData"]["peak_gflops"], 50);
}

TEST(BenchTraceTest, WhatTakesNoTimeHasNoRate) {
  StepProfile profile = Profile();
  PartTime& part = profile.traced[0].parts[1];
  part.end = part.begin;
  const json event = Complete(json::parse(StepTrace(profile)), "forward")[0];
  EXPECT_EQ(event["dur"], 0);
  EXPECT_FALSE(event["args"].contains("gflops_per_second")) << event;
}

TEST(BenchTraceTest, ATraceOfNothingIsATrace) { EXPECT_TRUE(Complete(json::parse(StepTrace(StepProfile{}))).empty()); }

}  // namespace
}  // namespace lockstep::cli
