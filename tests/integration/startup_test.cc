// SPDX-License-Identifier: Apache-2.0
// How long a coordinator takes to be ready, with a long history.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "server/launch/fake_launcher.h"
#include "server/metrics_feed.h"
#include "server/rpc/convert.h"
#include "server/rpc/coordinator.h"

namespace lockstep::rpc {
namespace {

namespace v1 = lockstep::v1;
using std::chrono::duration;

constexpr int kEnded = 9'700;
constexpr int kQueued = 299;
constexpr int kLongHistory = 200'000;

class StartupTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "lockstep-startup-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  // One job as the coordinator would have left it, with so many commits.
  void AddJob(core::JobState state, int commits) {
    const std::string id = absl::StrCat("job-", ++order_);
    v1::JobSpec spec;
    spec.set_name("job");
    for (int i = 0; i < 4; ++i) spec.mutable_model()->add_layers()->mutable_dense()->set_units(16);
    v1::Job job;
    job.set_job_id(id);
    job.set_state(ToProto(state));
    job.set_output_dir(absl::StrCat(dir_, "/jobs/", id));
    const int64_t generation = state == core::JobState::kQueued ? 0 : 1;
    batch_.push_back(store::InsertJob{{.job_id = id,
                                       .order = order_,
                                       .shape = {.workers = 1, .logical_shards = 1, .total_steps = 1 << 30},
                                       .spec = spec.SerializeAsString()}});
    v1::JobEvent event;
    int64_t sequence = 0;
    const auto append = [&] {
      event.set_sequence(++sequence);
      batch_.push_back(store::AppendEvent{id, sequence, event.SerializeAsString()});
    };
    event.mutable_state_changed()->set_state(v1::JOB_STATE_QUEUED);
    append();
    std::ofstream metrics;
    if (state == core::JobState::kRunning) {
      std::filesystem::create_directories(job.output_dir());
      metrics.open(job.output_dir() + "/metrics.jsonl");
    }
    for (int i = 0; i < commits; ++i) {
      v1::StepsCommitted& steps = *event.mutable_steps_committed();
      steps.set_first_step(i * 10);
      steps.set_end_step(i * 10 + 10);
      steps.set_samples(80);
      steps.mutable_phases()->set_forward_seconds(0.001);
      append();
      batch_.push_back(store::AppendLedger{id, 1, i * 10, i * 10 + 10, false});
      if (metrics.is_open()) metrics << ToJson(event) << "\n";
    }
    if (state != core::JobState::kQueued) {
      event.mutable_state_changed()->set_state(ToProto(state));
      append();
    }
    batch_.push_back(
        store::UpdateJob{id, state, generation, false, "", job.SerializeAsString(), store::UpdateJob::Live{1, 1}});
  }
  void Fill() {
    auto store = store::Store::Open(dir_);
    ASSERT_TRUE(store.ok()) << store.status();
    AddJob(core::JobState::kRunning, kLongHistory);
    for (int i = 0; i < kEnded; ++i) AddJob(core::JobState::kSucceeded, i > kEnded - 100 ? 1'000 : 2);
    for (int i = 0; i < kQueued; ++i) AddJob(core::JobState::kQueued, 0);
    ASSERT_TRUE((*store)->Write(batch_).ok());
    batch_.clear();
  }
  // Seconds until a coordinator over this store is ready.
  double Start() {
    const auto began = std::chrono::steady_clock::now();
    auto store = store::Store::Open(dir_);
    EXPECT_TRUE(store.ok()) << store.status();
    metrics::Metrics metrics;
    MetricsFeed feed(&metrics);
    EXPECT_TRUE(feed.Replay(**store).ok());
    const auto replayed = std::chrono::steady_clock::now();
    TimerQueue timers;
    launch::FakeLauncher launcher;
    EventHub hub;
    SystemClock clock;
    Coordinator coordinator({.state_dir = dir_, .slots = 1}, store->get(), &launcher, &timers, &hub, &clock, nullptr);
    EXPECT_TRUE(coordinator.Start().ok());
    const auto ready = std::chrono::steady_clock::now();
    std::cout << "metrics " << duration<double>(replayed - began).count() << " s, coordinator "
              << duration<double>(ready - replayed).count() << " s\n";
    coordinator.Stop();
    timers.Stop();
    EXPECT_EQ((*store)->GetJob("job-1")->state, core::JobState::kRunning);
    return duration<double>(ready - began).count();
  }

  std::string dir_;
  store::Batch batch_;
  int64_t order_ = 0;
};

TEST_F(StartupTest, IsReadyWithinASecondWithTenThousandJobs) {
  Fill();
  ASSERT_EQ(order_, 10'000);
  // Others may use the machine meanwhile; what it takes is the shortest.
  double seconds = Start();
  for (int i = 0; i < 2 && seconds >= 1; ++i) seconds = std::min(seconds, Start());
  EXPECT_LT(seconds, 1.0);
}

}  // namespace
}  // namespace lockstep::rpc
