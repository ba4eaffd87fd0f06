// SPDX-License-Identifier: Apache-2.0
#include "server/metrics_feed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lockstep {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

namespace v1 = lockstep::v1;

// A store with jobs whose events are fed as the coordinator would: stored, then shown.
class MetricsFeedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "lockstep-feed-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    auto store = store::Store::Open(dir_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = std::move(*store);
    ASSERT_TRUE(feed_.Replay(*store_).ok());
  }
  void TearDown() override {
    store_.reset();
    std::filesystem::remove_all(dir_);
  }

  void Add(const std::string& id) { batch_.push_back(store::InsertJob{{.job_id = id, .order = ++order_}}); }
  void Event(const std::string& id, v1::JobEvent event) {
    event.set_sequence(++sequence_[id]);
    batch_.push_back(store::AppendEvent{id, event.sequence(), event.SerializeAsString()});
    if (event.has_state_changed()) {
      batch_.push_back(store::UpdateJob{id, static_cast<core::JobState>(event.state_changed().state()),
                                        event.state_changed().generation()});
    }
    // One transaction for many events costs one wait for the disk.
    if (event.has_state_changed()) Flush();
    feed_.OnEvent(id, event);
  }
  void Flush() { ASSERT_TRUE(store_->Write(std::exchange(batch_, {})).ok()); }
  void State(const std::string& id, v1::JobState state, int64_t generation, int64_t restarts = 0) {
    v1::JobEvent event;
    event.mutable_state_changed()->set_restarts(restarts);
    event.mutable_state_changed()->set_state(state);
    event.mutable_state_changed()->set_generation(generation);
    Event(id, event);
  }
  void Steps(const std::string& id, int64_t first, int64_t end) {
    v1::JobEvent event;
    v1::StepsCommitted& steps = *event.mutable_steps_committed();
    steps.set_first_step(first);
    steps.set_end_step(end);
    steps.set_samples((end - first) * 8);
    steps.set_loss(0.5);
    steps.set_samples_per_second(100);
    steps.mutable_phases()->set_lease_seconds(0.25);
    steps.mutable_phases()->set_data_seconds(0.5);
    Event(id, event);
  }
  void Warn(const std::string& id, v1::WarningKind kind) {
    v1::JobEvent event;
    event.mutable_warning()->set_kind(kind);
    Event(id, event);
  }
  // The lines of these metrics that are of jobs; process metrics differ from one to the next.
  static std::string JobLines(const metrics::Metrics& metrics) {
    std::string found;
    for (absl::string_view line : absl::StrSplit(metrics.Text(), '\n')) {
      if (absl::StartsWith(line, "lockstep_") && !absl::StartsWith(line, "lockstep_build_info") &&
          (absl::StrContains(line, "job_id") || absl::StrContains(line, "lockstep_jobs"))) {
        absl::StrAppend(&found, line, "\n");
      }
    }
    return found;
  }
  std::string Lines() const { return JobLines(metrics_); }
  // What a coordinator that starts now would show.
  std::string Replayed() {
    Flush();
    metrics::Metrics metrics;
    MetricsFeed feed(&metrics);
    EXPECT_TRUE(feed.Replay(*store_).ok());
    return JobLines(metrics);
  }

  std::string dir_;
  std::unique_ptr<store::Store> store_;
  metrics::Metrics metrics_;
  MetricsFeed feed_{&metrics_};
  int64_t order_ = 0;
  store::Batch batch_;
  std::map<std::string, int64_t> sequence_;
};

TEST_F(MetricsFeedTest, CountsFaultsByKindFromZero) {
  Add("a");
  State("a", v1::JOB_STATE_STARTING, 1);
  for (const char* name : {"checkpoint_failures", "divergence_alarms", "non_finite_steps", "job_restarts"}) {
    EXPECT_THAT(Lines(), HasSubstr(absl::StrCat("lockstep_", name, "_total{job_id=\"a\"} 0\n")));
  }
  Warn("a", v1::WARNING_KIND_CHECKPOINT_FAILED);
  Warn("a", v1::WARNING_KIND_NON_FINITE);
  Warn("a", v1::WARNING_KIND_NON_FINITE);
  Warn("a", v1::WARNING_KIND_RESUME_UNUSABLE);
  EXPECT_THAT(Lines(), HasSubstr("lockstep_checkpoint_failures_total{job_id=\"a\"} 1\n"));
  EXPECT_THAT(Lines(), HasSubstr("lockstep_non_finite_steps_total{job_id=\"a\"} 2\n"));
  EXPECT_THAT(Lines(), HasSubstr("lockstep_divergence_alarms_total{job_id=\"a\"} 0\n"));
  Warn("a", v1::WARNING_KIND_DIVERGENCE);
  EXPECT_THAT(Lines(), HasSubstr("lockstep_divergence_alarms_total{job_id=\"a\"} 1\n"));
  Steps("a", 0, 10);
  EXPECT_THAT(Lines(), HasSubstr("lockstep_step_phase_seconds{job_id=\"a\",phase=\"lease\"} 0.25\n"));
}

TEST_F(MetricsFeedTest, AnEpochsMetricsAreSeriesOfAFixedListOfNames) {
  Add("a");
  v1::JobEvent event;
  v1::EpochCompleted& epoch = *event.mutable_epoch_completed();
  epoch.set_learning_rate(0.25);
  const auto add = [](v1::MetricValue* metric, const std::string& name, double value) {
    metric->set_name(name);
    metric->set_value(value);
  };
  add(epoch.add_train_metrics(), "gradient_norm", 2);
  add(epoch.add_test_metrics(), "f1_score", 0.5);
  add(epoch.add_test_metrics(), "made_up", 1);
  Event("a", event);
  EXPECT_THAT(Lines(), HasSubstr("lockstep_train_learning_rate{job_id=\"a\"} 0.25\n"));
  EXPECT_THAT(Lines(), HasSubstr("lockstep_train_metric{job_id=\"a\",name=\"gradient_norm\",split=\"train\"} 2\n"));
  EXPECT_THAT(Lines(), HasSubstr("lockstep_train_metric{job_id=\"a\",name=\"f1_score\",split=\"test\"} 0.5\n"));
  EXPECT_THAT(Lines(), Not(HasSubstr("made_up")));
}

TEST_F(MetricsFeedTest, AReplayGivesWhatWasThereBefore) {
  Add("a");
  State("a", v1::JOB_STATE_STARTING, 1);
  Steps("a", 0, 10);
  State("a", v1::JOB_STATE_STARTING, 2, 1);
  for (int i = 0; i < 1500; ++i) Steps("a", i, i + 1);
  Warn("a", v1::WARNING_KIND_DIVERGENCE);
  Add("b");
  State("b", v1::JOB_STATE_STARTING, 1);
  Steps("b", 0, 10);
  State("b", v1::JOB_STATE_SUCCEEDED, 1);
  EXPECT_THAT(Lines(), HasSubstr("lockstep_train_steps_total{job_id=\"a\"} 1510\n"));
  EXPECT_THAT(Lines(), HasSubstr("lockstep_train_data_wait_seconds_total{job_id=\"a\"} 755\n"));
  EXPECT_THAT(Lines(), HasSubstr("lockstep_job_restarts_total{job_id=\"a\"} 1\n"));
  EXPECT_THAT(Lines(), HasSubstr("lockstep_train_samples_per_second{job_id=\"b\"} 0\n"));
  EXPECT_EQ(Replayed(), Lines());
}

TEST_F(MetricsFeedTest, AScaleIsNoRestart) {
  Add("a");
  State("a", v1::JOB_STATE_QUEUED, 0);
  State("a", v1::JOB_STATE_STARTING, 1);
  State("a", v1::JOB_STATE_STARTING, 2);
  EXPECT_THAT(Lines(), HasSubstr("lockstep_job_restarts_total{job_id=\"a\"} 0\n"));
  State("a", v1::JOB_STATE_STARTING, 3, 1);
  EXPECT_THAT(Lines(), HasSubstr("lockstep_job_restarts_total{job_id=\"a\"} 1\n"));
}

TEST_F(MetricsFeedTest, AJobThatGoesOnIsNoLongerCountedAsEnded) {
  Add("a");
  State("a", v1::JOB_STATE_QUEUED, 0);
  State("a", v1::JOB_STATE_STARTING, 1);
  State("a", v1::JOB_STATE_FAILED, 1);
  EXPECT_THAT(Lines(), HasSubstr("lockstep_jobs{state=\"failed\"} 1\n"));
  State("a", v1::JOB_STATE_QUEUED, 2);
  EXPECT_THAT(Lines(), HasSubstr("lockstep_jobs{state=\"failed\"} 0\n"));
  EXPECT_THAT(Lines(), HasSubstr("lockstep_jobs{state=\"queued\"} 1\n"));
  State("a", v1::JOB_STATE_STARTING, 3, 1);
  // Its series must outlive those of all that end after it had.
  for (int64_t i = 0; i < metrics::kMaxEndedJobs; ++i) {
    const std::string other = absl::StrCat("other-", i);
    Add(other);
    State(other, v1::JOB_STATE_CANCELLED, 0);
  }
  Steps("a", 0, 10);
  EXPECT_THAT(Lines(), HasSubstr("lockstep_job_restarts_total{job_id=\"a\"} 1\n"));
}

TEST_F(MetricsFeedTest, SaysWhetherTheStoreFails) {
  EXPECT_THAT(metrics_.Text(), HasSubstr("lockstep_store_failing 0\n"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("lockstep_store_failures_total 0\n"));
  metrics_.SetStoreFailing(true);
  metrics_.SetStoreFailing(true);
  EXPECT_THAT(metrics_.Text(), HasSubstr("lockstep_store_failing 1\n"));
  metrics_.SetStoreFailing(false);
  EXPECT_THAT(metrics_.Text(), HasSubstr("lockstep_store_failing 0\n"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("lockstep_store_failures_total 2\n"));
}

}  // namespace
}  // namespace lockstep
