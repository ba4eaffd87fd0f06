// SPDX-License-Identifier: Apache-2.0
// Training that ends before its last step because the workers found that the rest is not worth doing.
#include "tests/unit/server/core_fixture.h"

namespace lockstep::core {
namespace {

using testing::HasSubstr;

class EarlyStopTest : public CoreTest {
 protected:
  void SetUp() override {
    EXPECT_TRUE(
        Do(JobSubmitted{
               "a", ++order_, {.workers = 2, .logical_shards = 8, .total_steps = 100, .steps_per_epoch = 10}, ""})
            .status.ok());
    Connect("a");
  }
  Outcome Epoch(int64_t epoch, int64_t step, bool stopped) {
    EpochReported reported{Next("a", 0)};
    reported.epoch = epoch;
    reported.step = step;
    reported.stopped_early = stopped;
    return Do(reported);
  }
};

TEST_F(EarlyStopTest, TheJobSucceedsWithTheStepsThatAreDone) {
  Commit("a", 0, 30);
  ASSERT_TRUE(Epoch(3, 30, true).status.ok());
  EXPECT_EQ(Last<StoreEarlyStop>().step, 30);
  EXPECT_EQ(Of("a").end_step(), 30);
  EXPECT_EQ(Commit("a", 30, 31).status.code(), absl::StatusCode::kInvalidArgument);
  GoodbyeAll("a", Farewell::kSucceeded, 30);
  GroupEnds("a");
  EXPECT_EQ(Stored("a")->state, JobState::kSucceeded);
  EXPECT_EQ(Stored("a")->reason, "stopped early after epoch 3");
  EXPECT_TRUE(Stored("a")->stopped_early);
}

TEST_F(EarlyStopTest, AJobThatDoesAllItsStepsSaysSo) {
  Commit("a", 0, 100);
  ASSERT_TRUE(Epoch(10, 100, false).status.ok());
  GoodbyeAll("a", Farewell::kSucceeded, 100);
  GroupEnds("a");
  EXPECT_EQ(Stored("a")->reason, "all 100 steps are done");
  EXPECT_FALSE(Stored("a")->stopped_early);
}

TEST_F(EarlyStopTest, WithoutHavingSaidSoItIsNoSuccess) {
  Commit("a", 0, 30);
  ASSERT_TRUE(Epoch(3, 30, false).status.ok());
  GoodbyeAll("a", Farewell::kSucceeded, 30);
  GroupEnds("a");
  EXPECT_EQ(Stored("a")->state, JobState::kStarting);
  EXPECT_THAT(Stored("a")->reason, HasSubstr("only 30 of 100 steps are committed"));
}

TEST_F(EarlyStopTest, OnlyAtACommittedEndOfAnEpoch) {
  Commit("a", 0, 35);
  for (const int64_t step : {int64_t{30}, int64_t{35}, int64_t{40}, int64_t{0}, int64_t{-10}}) {
    EXPECT_EQ(Epoch(3, step, true).status.code(), absl::StatusCode::kInvalidArgument) << step;
  }
  EXPECT_EQ(Of("a").stopped_at, 0);
}

// The coordinator dies between the stop and the goodbyes.
TEST_F(EarlyStopTest, ItIsKnownAfterARestart) {
  Commit("a", 0, 30);
  Epoch(3, 30, true);
  RestartCoordinator();
  for (int rank = 0; rank < 2; ++rank) ASSERT_TRUE(Hello("a", rank, 2, 100).status.ok());
  GoodbyeAll("a", Farewell::kSucceeded, 30);
  GroupEnds("a");
  EXPECT_EQ(Stored("a")->state, JobState::kSucceeded);
  EXPECT_EQ(Stored("a")->reason, "stopped early after epoch 3");
}

// The group dies after the stop and before the model is stored: the next one does the end again.
TEST_F(EarlyStopTest, AGroupThatDiesThenIsStartedAgain) {
  Commit("a", 0, 20, true);
  Commit("a", 20, 30, true);
  Epoch(3, 30, true);
  StreamEnds("a", 1);
  GroupEnds("a", {.exit_code = 137});
  EXPECT_EQ(Of("a").generation, 2);
  EXPECT_EQ(Of("a").resumed_from.step, 30);
  EXPECT_EQ(Of("a").stopped_at, 30);
  Connect("a");
  ASSERT_TRUE(Epoch(3, 30, true).status.ok());
  GoodbyeAll("a", Farewell::kSucceeded, 30);
  GroupEnds("a");
  EXPECT_EQ(Stored("a")->state, JobState::kSucceeded);
}

TEST_F(EarlyStopTest, GoingBackBeforeItTakesItBack) {
  Commit("a", 0, 20);
  Checkpoint("a", 20);
  Commit("a", 20, 30);
  Epoch(3, 30, true);
  StreamEnds("a", 1);
  GroupEnds("a", {.exit_code = 137});
  EXPECT_EQ(Of("a").resumed_from.step, 20);
  EXPECT_EQ(Of("a").end_step(), 100);
  Connect("a");
  Commit("a", 20, 30);
  // Reported again, with the same bits.
  ASSERT_TRUE(Epoch(3, 30, true).status.ok());
  EXPECT_EQ(Of("a").end_step(), 30);
}

TEST_F(EarlyStopTest, ResumedFromBeforeItTrainsOn) {
  Commit("a", 0, 20);
  Checkpoint("a", 20);
  Commit("a", 20, 30);
  Epoch(3, 30, true);
  Job ended = Of("a");
  GoodbyeAll("a", Farewell::kSucceeded, 30);
  GroupEnds("a");
  ended.state = JobState::kSucceeded;
  ASSERT_TRUE(Do(ResumeAsked{ended, 20}).status.ok());
  EXPECT_EQ(Of("a").end_step(), 100);
  EXPECT_EQ(Of("a").epochs, 2);
}

}  // namespace
}  // namespace lockstep::core
