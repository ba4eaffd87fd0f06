// SPDX-License-Identifier: Apache-2.0
#include "common/model/monitor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "google/protobuf/util/json_util.h"

namespace lockstep {
namespace {

v1::JobSpec Spec(const std::string& json) {
  v1::JobSpec spec;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &spec);
  EXPECT_TRUE(status.ok()) << json << status.ToString();
  return spec;
}

MonitorPlan Plan(const std::string& metric, v1::MonitorMode mode = v1::MONITOR_MODE_UNSPECIFIED, bool held_out = true) {
  v1::MonitorSpec spec;
  spec.set_metric(metric);
  spec.set_mode(mode);
  return PlanMonitor(spec, held_out);
}

TEST(MonitorTest, TheHeldOutLossUnlessItSaysOtherwise) {
  EXPECT_EQ(Plan("").metric, "test_loss");
  EXPECT_EQ(Plan("", v1::MONITOR_MODE_UNSPECIFIED, false).metric, "train_loss");
  EXPECT_EQ(Plan("train_accuracy").metric, "train_accuracy");
}

TEST(MonitorTest, WhichWayIsBetterFollowsFromTheMetric) {
  for (const char* name : {"loss", "mean_squared_error", "mean_absolute_error", "perplexity", "gradient_norm"}) {
    EXPECT_FALSE(Plan(std::string("train_") + name).higher_is_better) << name;
  }
  for (const char* name : {"accuracy", "top_k_accuracy", "binary_accuracy", "precision", "recall", "f1_score", "auc",
                           "confusion_matrix", "r_squared"}) {
    EXPECT_TRUE(Plan(std::string("test_") + name).higher_is_better) << name;
  }
  EXPECT_TRUE(Plan("test_loss", v1::MONITOR_MODE_MAX).higher_is_better);
  EXPECT_FALSE(Plan("test_accuracy", v1::MONITOR_MODE_MIN).higher_is_better);
}

TEST(MonitorTest, BestIsByWhatStopsTrainingUnlessItSaysOtherwise) {
  v1::TrainingSpec spec;
  EXPECT_EQ(PlanKeepBest(spec, true).metric, "test_loss");
  spec.mutable_early_stopping()->mutable_monitor()->set_metric("train_loss");
  EXPECT_EQ(PlanKeepBest(spec, true).metric, "train_loss");
  spec.mutable_keep_best()->set_metric("test_accuracy");
  EXPECT_EQ(PlanKeepBest(spec, true).metric, "test_accuracy");
}

TEST(MonitorTest, SaysWhyItStopped) {
  v1::EarlyStoppingSpec spec;
  EXPECT_EQ(DescribeStop(spec, true), "test_loss did not get better for 1 epoch");
  spec.set_patience(3);
  spec.mutable_monitor()->set_metric("test_accuracy");
  EXPECT_EQ(DescribeStop(spec, true), "test_accuracy did not get better for 3 epochs");
}

TEST(MonitorTest, BadOnesAreRefused) {
  const DatasetInfo info{.sample = Shape{4}, .train_samples = 10, .test_samples = 5};
  const DatasetInfo none{.sample = Shape{4}, .train_samples = 10, .test_samples = 0};
  struct Case {
    std::string json, field, text;
    const DatasetInfo* data;
  };
  for (const Case& bad : {
           Case{R"({"schedule": {"reduce_on_plateau": {"monitor": {"min_delta": -1}}}})",
                "schedule.reduce_on_plateau.monitor.min_delta", "at least 0", &info},
           Case{R"({"training": {"keep_best": {"mode": 7}}})", "training.keep_best.mode", "MIN or MAX", &info},
           Case{R"({"training": {"early_stopping": {"monitor": {"metric": "test_los"}}}})",
                "training.early_stopping.monitor.metric", "did you mean \"test_loss\"?", &info},
           Case{R"({"training": {"keep_best": {"metric": "test_loss"}}})", "training.keep_best.metric",
                "It has: train_loss, train_accuracy", &none},
           Case{R"({"training": {"keep_best": {"metric": "test_auc"}}})", "training.keep_best.metric", "no value",
                &info},
           Case{R"({"training": {"early_stopping": {"patience": -1}}})", "training.early_stopping.patience",
                "at least 0", &info},
       }) {
    Violations violations;
    CheckMonitors(Spec(bad.json), bad.data, violations);
    ASSERT_EQ(violations.count(), 1u) << bad.json;
    EXPECT_EQ(violations.list()[0].field, bad.field);
    EXPECT_THAT(violations.list()[0].description, testing::HasSubstr(bad.text));
  }
  Violations violations;
  CheckMonitors(Spec(R"({"metrics": [{"perplexity": {}}],
                         "training": {"early_stopping": {"monitor": {"metric": "test_perplexity"}, "patience": 2},
                                      "keep_best": {}}})"),
                &info, violations);
  EXPECT_TRUE(violations.empty());
}

}  // namespace
}  // namespace lockstep
