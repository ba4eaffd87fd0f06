// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>

#include "server/core/apply.h"

namespace lockstep::core {
namespace {

constexpr int kWorkers = 2;

class WatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Do(JobSubmitted{"a", 1, {.workers = kWorkers, .logical_shards = 2, .total_steps = 100}, {}});
    for (int rank = 0; rank < kWorkers; ++rank) {
      HelloSaid hello;
      static_cast<FromWorker&>(hello) = From(rank);
      hello.world_size = kWorkers;
      hello.host = "host";
      hello.pid = 100 + rank;
      Do(hello);
    }
    ASSERT_EQ(state_.Find("a")->state, JobState::kRunning);
  }

  void Do(const Event& event) {
    const Outcome outcome = Apply(state_, event, limits_);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    for (const Effect& effect : outcome.effects) kills_ += std::holds_alternative<KillGroup>(effect) ? 1 : 0;
  }
  static FromWorker From(int rank) { return {"a", 1, rank, 1}; }
  void Heartbeat(int rank, int64_t progress, Phase phase) {
    HeartbeatSaid heartbeat;
    static_cast<FromWorker&>(heartbeat) = From(rank);
    heartbeat.progress = progress;
    heartbeat.phase = phase;
    Do(heartbeat);
  }
  // Looks of the watchdog until the group is killed, at most `most`.
  int LooksUntilKilled(int most) {
    int looks = 0;
    while (kills_ == 0 && looks < most) {
      Do(TimerFired{"a", 1, TimerKind::kWatch});
      ++looks;
    }
    return looks;
  }

  State state_{4};
  Limits limits_;
  int kills_ = 0;
};

TEST_F(WatchTest, StartUpMayTakeLong) {
  for (int rank = 0; rank < kWorkers; ++rank) Heartbeat(rank, 0, Phase::kStartup);
  EXPECT_EQ(LooksUntilKilled(1'000), limits_.startup_ticks);
}

TEST_F(WatchTest, ARankThatHangsRightAfterStartUpIsFoundAsFastAsAnyOther) {
  for (int rank = 0; rank < kWorkers; ++rank) Heartbeat(rank, 0, Phase::kStartup);
  LeaseAsked lease;
  static_cast<FromWorker&>(lease) = From(0);
  lease.steps = 10;
  Do(lease);
  StepsReported steps;
  static_cast<FromWorker&>(steps) = From(0);
  steps.report = 1;
  steps.end_step = 10;
  Do(steps);
  // Rank 1 was stopped before its next heartbeat; rank 0 lives and waits for it.
  Heartbeat(0, 10, Phase::kStep);
  EXPECT_LE(LooksUntilKilled(1'000), limits_.step_ticks);
}

}  // namespace
}  // namespace lockstep::core
