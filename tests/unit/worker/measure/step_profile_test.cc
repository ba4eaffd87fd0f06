// SPDX-License-Identifier: Apache-2.0
#include "worker/measure/step_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/unit/worker/measure/measured_devices.h"
#include "tests/unit/worker/measure/table_job.h"
#include "worker/measure/products.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;

class StepProfileTest : public TableJobTest, public testing::WithParamInterface<NamedMeasured> {
 protected:
  StepProfile Profile(const v1::JobSpec& spec, int traced_steps) {
    return ProfileStep(spec, Roots(), on_, {.seconds = 0.01, .traced_steps = traced_steps}).value();
  }
  // "dense forward".
  static std::string NameOf(const StepProfile& profile, const PartTime& part) {
    switch (part.part) {
      case StepPart::kData:
        return "data";
      case StepPart::kForward:
        return absl::StrCat(profile.layers[static_cast<size_t>(part.layer)].name, " forward");
      case StepPart::kLoss:
        return "loss";
      case StepPart::kBackward:
        return absl::StrCat(profile.layers[static_cast<size_t>(part.layer)].name, " backward");
      case StepPart::kGradientSum:
        return "sum";
      case StepPart::kUpdate:
        return "update";
    }
    return "";
  }

  const MeasuredDevice on_ = GetParam().make();
};

TEST_P(StepProfileTest, PartsCoverTheStepsWithoutAGap) {
  const StepProfile profile = Profile(TableSpec(), 3);
  ASSERT_EQ(profile.traced.size(), 3u);
  EXPECT_EQ(profile.traced.front().begin, 0);
  double reached = 0;
  int64_t number = profile.traced.front().step;
  for (const StepTimes& step : profile.traced) {
    EXPECT_EQ(step.step, number++);
    EXPECT_GE(step.begin, reached);
    reached = step.begin;
    for (const PartTime& part : step.parts) {
      EXPECT_EQ(part.begin, reached);
      EXPECT_GE(part.end, part.begin);
      reached = part.end;
    }
    EXPECT_EQ(step.end, reached);
  }
}

TEST_P(StepProfileTest, PartsAreThoseOfTheStepInOrder) {
  const StepProfile profile = Profile(TableSpec(), 1);
  std::vector<std::string> first, second;
  for (const PartTime& part : profile.traced.front().parts) {
    (part.shard == 0 && part.part != StepPart::kUpdate ? first : second).push_back(NameOf(profile, part));
  }
  EXPECT_THAT(first,
              ElementsAre("data", "dense forward", "dropout forward", "dense_1 forward", "loss", "dense_1 backward",
                          "dropout backward", "dense/relu backward", "dense backward", "sum"));
  first.push_back("update");
  EXPECT_EQ(second, first);
}

TEST_P(StepProfileTest, FiguresFitEachOther) {
  const StepProfile profile = Profile(TableSpec(), 0);
  EXPECT_TRUE(profile.traced.empty());
  EXPECT_EQ(profile.precision, "fp32");
  EXPECT_EQ(profile.batch, 16);
  EXPECT_EQ(profile.shards, 2);
  EXPECT_GE(profile.steps, 5);
  EXPECT_GT(profile.step_seconds, 0);
  EXPECT_GT(profile.data_seconds, 0);
  EXPECT_GT(profile.update_seconds, 0);
  EXPECT_GT(profile.compute_seconds(), 0);
  EXPECT_GT(profile.peak_gflops, 0);
  EXPECT_GT(profile.peak_gbytes, 0);
  // Nobody wants the gradient of the samples.
  EXPECT_EQ(profile.layers.front().flops(), 2 * 2 * 16 * 4 * 8);
  EXPECT_EQ(profile.layers.back().flops(), 3 * 2 * 16 * 8 * 2);
  // Weights once for each shard.
  EXPECT_EQ(profile.layers.back().work.forward_bytes, 4 * (16 * 8 + 2 * (8 * 2 + 2) + 16 * 2));
  EXPECT_EQ(profile.sample_bytes, 4 * 4);
  // Weights, gradient, and Adam's two moments, of arrays that are padded.
  EXPECT_GE(profile.update_bytes, 4 * 7 * (4 * 8 + 8 + 8 * 2 + 2));
}

// Names of ranges, and where they end.
class WrittenRanges final : public RangeMarker {
 public:
  explicit WrittenRanges(std::string* text) : text_(text) {}
  void Begin(const char* name) override { absl::StrAppend(text_, name, "("); }
  void End() override { absl::StrAppend(text_, ")"); }

 private:
  std::string* text_;
};

TEST_P(StepProfileTest, AProfilerIsToldOfThePartsOfAStep) {
  MeasuredDevice on = GetParam().make();
  std::string text;
  on.ranges = std::make_unique<WrittenRanges>(&text);
  ASSERT_TRUE(ProfileStep(TableSpec(), Roots(), on, {.seconds = 0.01}).ok());
  const std::string shard =
      "data()dense forward()dropout forward()dense_1 forward()loss()dense_1 backward()dropout backward()"
      "dense/relu backward()dense backward()gradient sum()";
  const std::string step = absl::StrCat("step(", shard, shard, "update())");
  EXPECT_EQ(text.substr(0, 2 * step.size()), step + step);
}

// One step fills the timer.
TEST_P(StepProfileTest, AStepOfMoreMarksThanAreReadAtOnceIsMeasured) {
  v1::JobSpec spec = TableSpec();
  spec.mutable_training()->set_logical_shards(16);
  for (int i = 0; i < 150; ++i) spec.mutable_model()->add_layers()->mutable_dense()->set_units(2);
  const StepProfile profile = Profile(spec, 2);
  EXPECT_EQ(profile.traced.size(), 2u);
  EXPECT_GT(profile.traced[1].parts.size(), 16u * 300);
}

TEST_P(StepProfileTest, WhatIsWrongWithTheJobIsSaid) {
  v1::JobSpec spec = TableSpec();
  spec.mutable_dataset()->mutable_csv()->set_path("none.csv");
  const absl::Status status = ProfileStep(spec, Roots(), on_, {.seconds = 0.01}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("none.csv"));
}

TEST_P(StepProfileTest, ProductsAreMeasuredInEachPrecision) {
  for (const ProductKind& kind : ProductKinds(on_.gpu)) {
    const OperationTime time = MeasureProduct(on_, kind, 8, 0.001).value();
    EXPECT_EQ(time.name, kind.name);
    EXPECT_EQ(time.flops, 2 * 8 * 8 * 8);
    EXPECT_GT(time.seconds, 0) << kind.name;
  }
  const std::vector<OperationTime> levels = MeasureBlasLevels(on_, 0.001).value();
  ASSERT_EQ(levels.size(), 3u);
  EXPECT_EQ(levels[0].bytes, 12 * 64);
  for (const OperationTime& level : levels) EXPECT_GT(level.seconds, 0) << level.name;
}

INSTANTIATE_TEST_SUITE_P(Devices, StepProfileTest, testing::ValuesIn(MeasuredDevices()),
                         [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace lockstep
