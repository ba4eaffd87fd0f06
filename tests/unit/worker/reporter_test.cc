// SPDX-License-Identifier: Apache-2.0
#include "worker/train/reporter.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

TEST(ReporterTest, ARangeHoldsTheMeansOfItsSteps) {
  FakeClock clock;
  Reporter reporter(&clock, /*classification=*/true, 100, 3);
  reporter.Begin(10);
  reporter.AddStep({.loss = 32, .correct = 8}, 32,
                   {.data = 1, .forward = 2, .backward = 3, .allreduce = 4, .optimizer = 5});
  EXPECT_FALSE(reporter.Due());
  reporter.AddStep({.loss = 16, .correct = 8}, 16,
                   {.data = 3, .forward = 2, .backward = 3, .allreduce = 4, .optimizer = 5});
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
  EXPECT_EQ(reporter.epoch_sums.rows, 48);
}

TEST(ScoreTest, RSquaredIsOneMinusTheShareLeftUnexplained) {
  // Targets 1, 2, 3, 4; predictions off by 0.5 each.
  const LossSums sums{.loss = 1, .squared_error = 1, .target = 10, .target_squared = 30};
  const Scores scores = Score(sums, 4, 1, /*classification=*/false);
  EXPECT_DOUBLE_EQ(scores.loss, 0.25);
  EXPECT_DOUBLE_EQ(scores.r_squared, 1.0 - 1.0 / 5.0);
}

TEST(ScoreTest, AConstantTargetHasNothingToExplain) {
  const LossSums sums{.loss = 1, .squared_error = 1, .target = 8, .target_squared = 16};
  EXPECT_EQ(Score(sums, 4, 1, false).r_squared, 0);
}

}  // namespace
}  // namespace lockstep
