// SPDX-License-Identifier: Apache-2.0
// The coordinator dies or stops; jobs get more or fewer workers; jobs that ended go on.
#include "tests/unit/server/core_fixture.h"

namespace lockstep::core {
namespace {

using ::testing::HasSubstr;
constexpr absl::StatusCode kFailedPrecondition = absl::StatusCode::kFailedPrecondition;

TEST_F(CoreTest, AGroupThatOutlivesTheCoordinatorIsTakenUpAgain) {
  Run("a", 2);
  Commit("a", 0, 10, true);
  RestartCoordinator();
  EXPECT_EQ(Of("a").state, JobState::kRunning);
  EXPECT_EQ(Effects<Launch>().size(), 1u);
  EXPECT_EQ(Hello("a", 0, 1, 100).status.code(), absl::StatusCode::kAlreadyExists) << "an old stream's hello";
  EXPECT_TRUE(Hello("a", 0, 2, 100).status.ok());
  EXPECT_EQ(Last<SendWelcome>().last_report, 1);
  EXPECT_TRUE(Hello("a", 1, 2, 100).status.ok());
  EXPECT_TRUE(Commit("a", 10, 60).status.ok()) << "leases are held, not given anew";
  Commit("a", 60, 100);
  GoodbyeAll("a", Farewell::kSucceeded, 100);
  GroupEnds("a");
  EXPECT_EQ(Stored("a")->state, JobState::kSucceeded);
}

TEST_F(CoreTest, AGroupThatDiedWithTheCoordinatorIsStartedAgain) {
  Run("a", 2);
  Commit("a", 0, 10, true);
  RestartCoordinator();
  Do(GroupExited{"a", 1, {.reported = false}});
  EXPECT_EQ(Last<Launch>().resume.step, 10);
  EXPECT_EQ(Of("a").generation, 2);
}

TEST_F(CoreTest, AGroupThatIsNotHeardOfAfterARestartIsKilled) {
  Run("a", 1);
  RestartCoordinator();
  Tick("a", limits_.step_ticks);
  EXPECT_EQ(Effects<KillGroup>().size(), 1u);
}

TEST_F(CoreTest, AJobThatFinishedWhileTheCoordinatorWasAwayHasSucceeded) {
  Run("a", 2);
  Commit("a", 0, 100);
  GoodbyeAll("a", Farewell::kSucceeded, 100);
  RestartCoordinator();
  Do(GroupExited{"a", 1, {.reported = false}});
  EXPECT_EQ(Stored("a")->state, JobState::kSucceeded);
}

TEST_F(CoreTest, ARankThatIsKnownToBeDeadIsNotForgottenWithTheCoordinator) {
  Run("a", 2);
  StreamEnds("a", 1);
  RestartCoordinator();
  EXPECT_EQ(Effects<KillGroup>().size(), 2u) << "nobody can say whether the first order arrived";
  GroupEnds("a", {.exit_code = 137, .killed = true});
  EXPECT_THAT(Stored("a")->reason, HasSubstr("rank 1 (pid 101 on host host) failed before"));
}

TEST_F(CoreTest, ADrainedJobGoesBackToTheQueueAndOnFromItsCheckpoint) {
  Run("a", 1);
  Commit("a", 0, 40);
  Do(DrainAsked{});
  ASSERT_EQ(Effects<SendStop>().size(), 1u);
  EXPECT_TRUE(Effects<SendStop>()[0].checkpoint);
  Checkpoint("a", 40);
  GoodbyeAll("a", Farewell::kStopped, 40);
  GroupEnds("a");
  EXPECT_EQ(Stored("a")->state, JobState::kQueued);
  EXPECT_EQ(Effects<Drained>().size(), 1u);
  EXPECT_EQ(Do(JobSubmitted{"b", 9, {.total_steps = 5}}).status.code(), absl::StatusCode::kUnavailable);
  RestartCoordinator();
  EXPECT_EQ(Of("a").generation, 2);
  EXPECT_EQ(Last<Launch>().resume.path, "/c/40");
}

TEST_F(CoreTest, ADrainDuringAScaleGoesBackToTheQueue) {
  Run("a", 1);
  Do(ScaleAsked{"a", 2});
  Do(DrainAsked{});
  GoodbyeAll("a", Farewell::kStopped);
  GroupEnds("a");
  EXPECT_EQ(Stored("a")->state, JobState::kQueued);
  RestartCoordinator();
  EXPECT_EQ(Last<Launch>().shape.workers, 2);
}

TEST_F(CoreTest, ScalingStopsTheGroupAndStartsAnotherSize) {
  Run("a", 1);
  Commit("a", 0, 10);
  EXPECT_TRUE(Do(ScaleAsked{"a", 3}).status.ok());
  ASSERT_EQ(Effects<SendStop>().size(), 1u);
  Commit("a", 10, 12, true);
  GoodbyeAll("a", Farewell::kStopped, 12);
  GroupEnds("a");
  EXPECT_EQ(Last<Launch>().shape.workers, 3);
  EXPECT_EQ(Last<Launch>().shape.logical_shards, 8);
  EXPECT_EQ(Last<Launch>().resume.step, 12);
  EXPECT_TRUE(Of("a").causes.empty());
  Connect("a");
  EXPECT_TRUE(Do(ScaleAsked{"a", 1}).status.ok());
  GroupEnds("a", {.killed = true});
  EXPECT_EQ(Last<Launch>().shape.workers, 1);
  EXPECT_EQ(state_->free_slots(), 3);
}

TEST_F(CoreTest, AScaleTakesEffectWheneverItIsAsked) {
  Run("a", 1);
  Do(ScaleAsked{"a", 2});
  Do(ScaleAsked{"a", 3});  // While the group still stops for the first.
  GroupEnds("a");
  EXPECT_EQ(Last<Launch>().shape.workers, 3);
  Do(ScaleAsked{"a", 2});  // While it starts.
  HelloAll("a");
  EXPECT_EQ(Effects<SendStop>().back().rank, 2);
  GroupEnds("a");
  EXPECT_EQ(Last<Launch>().shape.workers, 2);
  Do(CancelAsked{"a", ""});
  EXPECT_EQ(Do(ScaleAsked{"a", 1}).status.code(), kFailedPrecondition);
}

TEST_F(CoreTest, AScaleIsCheckedAndOutlivesTheCoordinator) {
  Run("a", 2);
  EXPECT_EQ(Do(ScaleAsked{"a", 0}).status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Do(ScaleAsked{"a", 9}).status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Do(ScaleAsked{"a", 5}).status.code(), kFailedPrecondition);
  EXPECT_EQ(Do(ScaleAsked{"b", 1}).status.code(), absl::StatusCode::kNotFound);
  Do(ScaleAsked{"a", 1});
  RestartCoordinator();
  const size_t stops = Effects<SendStop>().size();
  Hello("a", 0, 2);
  EXPECT_GT(Effects<SendStop>().size(), stops);
  GroupEnds("a");
  EXPECT_EQ(Last<Launch>().shape.workers, 1);
}

TEST_F(CoreTest, FreeSlotsGoToWhoWaitsThenToTheOldestThatHasTooFew) {
  Run("a", 2);
  Run("b", 2);
  Do(ScaleAsked{"a", 4});
  Do(ScaleAsked{"b", 3});
  EXPECT_TRUE(Effects<SendStop>().empty()) << "nothing is free";
  Run("c", 1);
  Do(CancelAsked{"b", ""});
  GroupEnds("b");
  EXPECT_EQ(Of("c").state, JobState::kStarting) << "who waits comes first";
  EXPECT_TRUE(Of("a").rescaling) << "the rest is a's";
  GroupEnds("a");
  EXPECT_EQ(Last<Launch>().shape.workers, 3);
}

TEST_F(CoreTest, TwoSmallJobsDoNotFight) {
  Run("a", 1);
  Run("b", 1);
  Run("c", 2);
  Do(ScaleAsked{"a", 2});
  Do(ScaleAsked{"b", 2});
  Do(CancelAsked{"c", ""});
  GroupEnds("c");
  for (int i = 0; i < 4; ++i) {
    for (const char* id : {"a", "b"}) {
      if (Of(id).rescaling) GroupEnds(id);
      if (Of(id).state == JobState::kStarting) Connect(id);
    }
  }
  EXPECT_EQ(Of("a").group_size(), 2);
  EXPECT_EQ(Of("b").group_size(), 2);
  EXPECT_EQ(Of("a").generation + Of("b").generation, 4) << "each was started again once";
}

TEST_F(CoreTest, WithFewerSlotsTheNewestGiveWay) {
  Run("a", 2);
  Run("b", 2);
  RestartCoordinator(3);
  EXPECT_FALSE(Of("a").rescaling);
  EXPECT_TRUE(Of("b").rescaling);
  GroupEnds("b");
  EXPECT_EQ(Last<Launch>().shape.workers, 1);
  RestartCoordinator(4);
  Connect("b");
  EXPECT_TRUE(Of("b").rescaling) << "and get them back";
}

TEST_F(CoreTest, AnEndedJobGoesOnFromItsNewestCheckpoint) {
  Run("a", 1);
  Commit("a", 0, 40, true);
  Checkpoint("a", 30);
  Job ended = Of("a");
  Do(CancelAsked{"a", ""});
  GroupEnds("a");
  ended.state = JobState::kCancelled;
  EXPECT_TRUE(Do(ResumeAsked{ended, std::nullopt}).status.ok());
  EXPECT_EQ(Last<Launch>().resume.step, 30) << "snapshots go with a job's end";
  EXPECT_EQ(Do(ResumeAsked{ended, std::nullopt}).status.code(), kFailedPrecondition) << "it has not ended";
}

TEST_F(CoreTest, TheStepToGoOnFromIsStoredAtOnce) {
  Run("b", 4);
  Job ended{.id = "a", .order = 9, .shape = {.logical_shards = 1, .total_steps = 50}, .state = JobState::kSucceeded};
  ended.generation = 3;
  ended.committed = 50;
  ended.epochs = 50;
  ended.checkpoints = {{20, "/c/20"}, {40, "/c/40"}, {60, "/c/60"}};
  EXPECT_EQ(Do(ResumeAsked{ended, std::nullopt}).status.code(), kFailedPrecondition);
  EXPECT_EQ(Do(ResumeAsked{ended, 30}).status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Do(ResumeAsked{ended, 60}).status.code(), absl::StatusCode::kNotFound) << "never committed";
  EXPECT_TRUE(Do(ResumeAsked{ended, 20}).status.ok());
  EXPECT_EQ(Of("a").state, JobState::kQueued);
  EXPECT_EQ(Last<StoreGeneration>().first_step, 20) << "while it still waits for a slot";
  EXPECT_EQ(Last<StoreGeneration>().generation, 4);
  EXPECT_EQ(Of("a").committed, 20);
  EXPECT_EQ(Of("a").epochs, 20);
  RestartCoordinator();
  Do(CancelAsked{"b", ""});
  GroupEnds("b");
  EXPECT_EQ(Last<Launch>().resume.path, "/c/20");
  EXPECT_EQ(Last<Launch>().generation, 5);
}

}  // namespace
}  // namespace lockstep::core
