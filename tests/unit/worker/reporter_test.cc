// SPDX-License-Identifier: Apache-2.0
#include "worker/train/reporter.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "google/protobuf/text_format.h"
#include "worker/train/epoch_scores.h"

namespace lockstep {
namespace {

// One output for each of two classes, or one number.
Objective MakeObjective(const std::string& loss) {
  v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(loss, spec.mutable_loss()));
  return {ModelPlan{}, spec.loss(), PlanMetrics(spec, spec.loss().has_mean_squared_error() ? 1 : 2)};
}

TEST(ReporterTest, ARangeHoldsTheMeansOfItsSteps) {
  FakeClock clock;
  const Objective objective = MakeObjective("sparse_categorical_crossentropy { from_logits: true }");
  TrainerState state{.sums = {0, 0}};
  Reporter reporter(&clock, 100, 3);
  reporter.SetObjective(&objective);
  reporter.Begin(10);
  // Loss and right predictions.
  StepSeconds seconds{.data = 1, .forward = 2, .backward = 3, .allreduce = 4, .optimizer = 5};
  reporter.AddStep(std::vector<double>{32, 8}, 32, &seconds, state);
  EXPECT_FALSE(reporter.Due());
  seconds.data = 3;
  reporter.AddStep(std::vector<double>{16, 8}, 16, &seconds, state);
  clock.Advance(std::chrono::milliseconds(500));
  EXPECT_TRUE(reporter.Due());
  const v1::StepsCommitted range = reporter.Take(0.1);
  EXPECT_EQ(range.generation(), 3);
  EXPECT_EQ(range.first_step(), 10);
  EXPECT_EQ(range.end_step(), 12);
  EXPECT_DOUBLE_EQ(range.loss(), 1.0);
  EXPECT_DOUBLE_EQ(range.accuracy(), 16.0 / 48);
  EXPECT_DOUBLE_EQ(range.samples_per_second(), 96);
  EXPECT_DOUBLE_EQ(range.phases().data_seconds(), 2);
  EXPECT_EQ(reporter.Take(0.1).first_step(), reporter.Take(0.1).end_step());
  EXPECT_EQ(state.rows, 48);
  EXPECT_EQ(state.steps, 2);
  EXPECT_EQ(state.sums, (std::vector<double>{48, 16}));
}

TEST(ReporterTest, OfVeryShortStepsOneInSixteenIsTimed) {
  FakeClock clock;
  const Objective objective = MakeObjective("sparse_categorical_crossentropy { from_logits: true }");
  TrainerState state{.sums = {0, 0}};
  Reporter reporter(&clock, 100, 3);
  reporter.SetObjective(&objective);
  reporter.Begin(0);
  const StepSeconds brief{.forward = 1e-5, .backward = 2e-5}, slow{.forward = 2e-3};
  std::vector<int> timed;
  for (int step = 0; step < 40; ++step) {
    const bool times = reporter.WantsTimes();
    if (times) timed.push_back(step);
    reporter.AddStep(std::vector<double>{1, 1}, 1, times ? (step == 32 ? &slow : &brief) : nullptr, state);
  }
  // The slow one is followed by one that is timed.
  EXPECT_EQ(timed, (std::vector<int>{0, 16, 32, 33}));
  const v1::StepsCommitted range = reporter.Take(0.1);
  EXPECT_EQ(range.end_step(), 40);
  EXPECT_DOUBLE_EQ(range.phases().backward_seconds(), 3 * 2e-5 / 4);
}

TEST(ScoreTest, RSquaredIsOneMinusTheShareLeftUnexplained) {
  // Targets 1, 2, 3, 4; predictions off by 0.5 each: loss, then squares, absolutes, targets and theirs.
  const Objective objective = MakeObjective("mean_squared_error {}");
  const Scores scores = objective.Score(std::vector<double>{1, 1, 2, 10, 30}, 4, /*training=*/false);
  EXPECT_DOUBLE_EQ(scores.loss, 0.25);
  EXPECT_DOUBLE_EQ(scores.Find("r_squared").value(), 1.0 - 1.0 / 5.0);
  EXPECT_FALSE(scores.Find("accuracy").has_value());
}

TEST(ScoreTest, AConstantTargetHasNothingToExplain) {
  const Objective objective = MakeObjective("mean_squared_error {}");
  EXPECT_EQ(objective.Score(std::vector<double>{1, 1, 2, 8, 16}, 4, false).Find("r_squared"), 0.0);
}

TEST(ScoreTest, AMonitorNamesAPartAndAValue) {
  const Objective objective = MakeObjective("sparse_categorical_crossentropy { from_logits: true }");
  EpochScores scores{objective.Score(std::vector<double>{8, 3}, 4, true), {}};
  EXPECT_EQ(scores.Find("train_loss"), 2.0);
  EXPECT_EQ(scores.Find("train_accuracy"), 0.75);
  EXPECT_EQ(scores.Find("test_loss"), std::nullopt);
  EXPECT_EQ(scores.Find("loss"), std::nullopt);
  scores.test = objective.Score(std::vector<double>{2, 2}, 2, false);
  EXPECT_EQ(scores.Find("test_loss"), 1.0);
  EXPECT_EQ(scores.Find("test_accuracy"), 1.0);
  v1::EpochCompleted epoch;
  scores.Report(epoch);
  EXPECT_EQ(epoch.train_accuracy(), 0.75);
  EXPECT_EQ(epoch.test_accuracy(), 1.0);
  EXPECT_EQ(epoch.test_metrics_size(), 1);
  EXPECT_EQ(epoch.train_metrics(0).name(), "accuracy");
}

}  // namespace
}  // namespace lockstep
