// SPDX-License-Identifier: Apache-2.0
#include "cli/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_split.h"

namespace lockstep::cli {
namespace {

using ::testing::HasSubstr;

TEST(FormatTest, NumbersForPeople) {
  EXPECT_EQ(Count(812), "812");
  EXPECT_EQ(Count(12345), "12.3k");
  EXPECT_EQ(Count(1234567), "1.23M");
  EXPECT_EQ(Duration(7), "0:07");
  EXPECT_EQ(Duration(3723), "1:02:03");
  EXPECT_EQ(Duration(-1), "--:--");
  EXPECT_EQ(Age(59), "59s");
  EXPECT_EQ(Age(7199), "119m");
  EXPECT_EQ(Age(90000), "25h");
  EXPECT_EQ(StateName(v1::JOB_STATE_SUCCEEDED), "succeeded");
}

TEST(FormatTest, TableColumnsLineUp) {
  EXPECT_EQ(Table({{"JOB", "STATE"}, {"long-name", "x"}}), "JOB         STATE\nlong-name   x\n");
}

TEST(FormatTest, ProgressLineShowsAllAndFitsTheTerminal) {
  const ProgressState state{.step = 412,
                            .total_steps = 9375,
                            .total_epochs = 5,
                            .loss = 0.0812,
                            .classification = true,
                            .accuracy = 0.975,
                            .samples_per_second = 12345,
                            .steps_per_second = 400};
  const std::string line = ProgressLine(state, 120);
  EXPECT_THAT(line, HasSubstr("epoch 1/5 [="));
  EXPECT_THAT(line, HasSubstr("step 412/9375"));
  EXPECT_THAT(line, HasSubstr("loss 0.0812  acc 0.9750  12.3k samples/s  0:22 left"));
  for (int width : {1, 10, 40, 80, 120, 300}) EXPECT_LE(ProgressLine(state, width).size(), static_cast<size_t>(width));
}

TEST(FormatTest, WaitingForDataIsShownWhereItIsWorthAThought) {
  EXPECT_THAT(ProgressLine({.step = 1, .total_steps = 9, .data_wait_share = 0.249}, 120), HasSubstr("25 % data wait"));
  EXPECT_THAT(ProgressLine({.step = 1, .total_steps = 9, .data_wait_share = 0.01}, 120),
              testing::Not(HasSubstr("data wait")));
}

TEST(FormatTest, TheLastStepIsInTheLastEpoch) {
  EXPECT_THAT(ProgressLine({.step = 100, .total_steps = 100, .total_epochs = 5}, 100), HasSubstr("epoch 5/5"));
}

TEST(FormatTest, AReplayHasNoEpochs) {
  EXPECT_THAT(ProgressLine({.step = 12, .total_steps = 15}, 100), testing::Not(HasSubstr("epoch")));
}

TEST(FormatTest, AChangeOfStateSaysWhy) {
  const auto line = [](v1::JobState state, const std::string& reason) {
    v1::StateChanged change;
    change.set_state(state);
    change.set_reason(reason);
    return StateLine(change);
  };
  EXPECT_EQ(line(v1::JOB_STATE_RUNNING, ""), "running");
  EXPECT_EQ(line(v1::JOB_STATE_QUEUED, "waits for 2 slots (1 of 4 free)"), "queued: waits for 2 slots (1 of 4 free)");
  EXPECT_EQ(line(v1::JOB_STATE_STARTING, "starting 2 workers"), "starting 2 workers");
  EXPECT_EQ(line(v1::JOB_STATE_STARTING, "rank 1 (pid 7 on host h) died; starting 2 workers at step 40"),
            "starting again: rank 1 (pid 7 on host h) died; starting 2 workers at step 40");
  EXPECT_EQ(line(v1::JOB_STATE_FAILED, "no progress through 1 restarts: (1) rank 0 died; mpirun ended; (2) it hung"),
            "failed: no progress through 1 restarts:\n  (1) rank 0 died; mpirun ended\n  (2) it hung");
}

TEST(FormatTest, AnEpochsLineHasTheMetricsThatWereAskedFor) {
  v1::EpochCompleted epoch;
  epoch.set_epoch(2);
  epoch.set_total_epochs(3);
  epoch.set_train_loss(0.5);
  epoch.set_train_accuracy(0.75);
  epoch.set_test_loss(0.25);
  epoch.set_test_accuracy(0.875);
  epoch.set_epoch_seconds(1.5);
  const auto add = [](auto* metrics, const std::string& name, double value) -> v1::MetricValue& {
    v1::MetricValue& metric = *metrics->Add();
    metric.set_name(name);
    metric.set_value(value);
    return metric;
  };
  EXPECT_EQ(EpochLine(epoch), "epoch 2/3  train loss 0.5000  acc 0.7500  test loss 0.2500  acc 0.8750  1.50 s");
  add(epoch.mutable_train_metrics(), "accuracy", 0.75);
  add(epoch.mutable_train_metrics(), "auc", 0.6);
  add(epoch.mutable_train_metrics(), "gradient_norm", 2);
  add(epoch.mutable_test_metrics(), "accuracy", 0.875);
  add(epoch.mutable_test_metrics(), "auc", 0.7);
  add(epoch.mutable_test_metrics(), "confusion_matrix", 0.875).add_matrix(1);
  EXPECT_EQ(EpochLine(epoch),
            "epoch 2/3  train loss 0.5000  acc 0.7500  gradient_norm 2.0000  test loss 0.2500  acc 0.8750  "
            "auc 0.7000  1.50 s");
}

TEST(FormatTest, AConfusionMatrixLinesUp) {
  v1::MetricValue metric;
  EXPECT_EQ(ConfusionTable(metric), "");
  for (const double count : {1234, 5, 0, 42}) metric.add_matrix(count);
  EXPECT_EQ(ConfusionTable(metric),
            "         0    1\n"
            "    0 1234    5\n"
            "    1    0   42\n");
  metric.add_matrix(1);
  EXPECT_EQ(ConfusionTable(metric), "");
  for (int i = 0; i < 100 * 100 - 5; ++i) metric.add_matrix(0);
  EXPECT_NE(ConfusionTable(metric).find("100 classes"), std::string::npos);
}

TEST(FormatTest, LossCurveFallsFromLeftToRight) {
  std::vector<std::pair<double, double>> points;
  for (int i = 1; i <= 200; ++i) points.push_back({i * 10.0, 2.0 * std::exp(-i / 40.0)});
  const std::vector<std::string> rows = absl::StrSplit(LossCurve(points, 60, 8, /*ascii=*/true), '\n');
  ASSERT_EQ(rows.size(), 12u);
  EXPECT_EQ(rows[0], "loss");
  // The first row is drawn at the left only, the last at the right.
  EXPECT_LT(rows[1].rfind('*'), 20u);
  EXPECT_GT(rows[8].find('*'), 30u);
  EXPECT_THAT(rows[10], HasSubstr("step 2000"));
  EXPECT_THAT(LossCurve(points, 60, 8, false), HasSubstr("\u2500"));
}

TEST(FormatTest, TooFewPointsAreNoCurve) {
  EXPECT_EQ(LossCurve({}, 60, 8, true), "");
  EXPECT_EQ(LossCurve({{1, 1}}, 60, 8, true), "");
}

}  // namespace
}  // namespace lockstep::cli
