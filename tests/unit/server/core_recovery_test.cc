// SPDX-License-Identifier: Apache-2.0
// What happens when something dies, hangs, stops or differs.
#include "tests/unit/server/core_fixture.h"

namespace lockstep::core {
namespace {

using ::testing::HasSubstr;
constexpr absl::StatusCode kFailedPrecondition = absl::StatusCode::kFailedPrecondition;

TEST_F(CoreTest, ADeadRankEndsTheGroupAndTheNextOneGoesOnFromTheSnapshot) {
  Run("a", 2);
  Commit("a", 0, 10, true);
  Commit("a", 10, 17);
  StreamEnds("a", 1);
  ASSERT_EQ(Effects<KillGroup>().size(), 1u) << "at once";
  GroupEnds("a", {.exit_code = 137, .killed = true});
  EXPECT_EQ(Of("a").generation, 2);
  EXPECT_EQ(Last<StoreGeneration>().first_step, 10);
  EXPECT_EQ(Last<Launch>().resume.step, 10);
  EXPECT_EQ(Last<Launch>().resume.snapshot_generation, 1);
  EXPECT_THAT(Stored("a")->reason, HasSubstr("rank 1 (pid 101 on host host) died"));
  HelloAll("a");
  EXPECT_EQ(Last<SendWelcome>().resume.step, 10);
  Do(LeaseAsked{From("a", 0), 5});
  EXPECT_EQ(Last<SendLease>().first_step, 10);
}

TEST_F(CoreTest, AStreamThatOnlyBrokeIsNoDeath) {
  Run("a", 2);
  StreamEnds("a", 1, false);
  EXPECT_TRUE(Effects<KillGroup>().empty());
  EXPECT_TRUE(Hello("a", 1, 2, 100).status.ok());
  EXPECT_EQ(Last<SendWelcome>().last_report, 0);
  EXPECT_TRUE(Commit("a", 0, 10).status.ok());
}

TEST_F(CoreTest, ANewerCheckpointIsPreferredToASnapshot) {
  Run("a", 1);
  Commit("a", 0, 10, true);
  Commit("a", 10, 20);
  Checkpoint("a", 15);
  Checkpoint("a", 25);
  GroupEnds("a", {.signal = 9});
  EXPECT_EQ(Last<Launch>().resume.step, 15) << "25 is not committed";
  EXPECT_EQ(Last<Launch>().resume.path, "/c/15");
}

TEST_F(CoreTest, WithoutProgressTheFourthFailureIsTheLast) {
  Run("a", 1);
  Commit("a", 0, 10, true);
  for (int i = 0; i < 3; ++i) {
    GroupEnds("a", {.exit_code = 1 + i, .last_output = "word " + std::to_string(i)});
    ASSERT_EQ(Stored("a")->state, JobState::kStarting) << i;
    Connect("a");
  }
  GroupEnds("a", {.exit_code = 4});
  EXPECT_EQ(Stored("a")->state, JobState::kFailed);
  for (const char* part : {"(1)", "(4)", "exit code 1", "exit code 3", "exit code 4", "word 2"}) {
    EXPECT_THAT(Stored("a")->reason, HasSubstr(part));
  }
}

TEST_F(CoreTest, ANewStepRenewsTheBudgetButAnOldOneDoesNot) {
  Run("a", 1);
  Commit("a", 0, 10);
  for (int i = 0; i < 3; ++i) {
    GroupEnds("a", {.exit_code = 1});
    Connect("a");
    Commit("a", 0, 10);
  }
  EXPECT_EQ(Of("a").causes.size(), 3u) << "the same ten steps again are no progress";
  Commit("a", 10, 11, true);
  EXPECT_TRUE(Of("a").causes.empty());
}

TEST_F(CoreTest, ADamagedPlaceFallsBackToTheOneBefore) {
  Run("a", 1);
  Commit("a", 0, 30);
  Checkpoint("a", 10);
  Checkpoint("a", 20);
  Commit("a", 30, 40, true);
  GroupEnds("a", {.exit_code = 1});
  for (const int64_t next : {20, 10, 0}) {
    HelloAll("a");
    GoodbyeSaid goodbye{Next("a", 0)};
    goodbye.farewell = Farewell::kFailed;
    goodbye.resume_unusable = true;
    Do(goodbye);
    GroupEnds("a", {.exit_code = 1});
    EXPECT_EQ(Last<Launch>().resume.step, next);
  }
  EXPECT_EQ(Effects<VoidCheckpoint>().size(), 2u);
  EXPECT_EQ(Effects<VoidSnapshots>().size(), 1u);
  EXPECT_EQ(Of("a").causes.size(), 1u) << "only the first end was a failure of the group";
  Connect("a");
  Commit("a", 0, 1);
  EXPECT_TRUE(Of("a").causes.empty()) << "what was lost with the damage is done anew: progress";
}

TEST_F(CoreTest, ClaimsOfDamageWithNothingToBlameDoNotGoOnForEver) {
  Submit("a", 1);
  for (int i = 0; i < 4; ++i) {
    HelloAll("a");
    GoodbyeSaid goodbye{Next("a", 0)};
    goodbye.farewell = Farewell::kFailed;
    goodbye.resume_unusable = true;
    Do(goodbye);
    GroupEnds("a", {.exit_code = 1});
  }
  EXPECT_EQ(Stored("a")->state, JobState::kFailed);
}

TEST_F(CoreTest, APermanentFailureIsNotTriedAgain) {
  Run("a", 1);
  GoodbyeSaid goodbye{Next("a", 0)};
  goodbye.farewell = Farewell::kFailed;
  goodbye.message = "the data is wrong";
  goodbye.permanent = true;
  Do(goodbye);
  GroupEnds("a", {.exit_code = 1});
  EXPECT_EQ(Stored("a")->state, JobState::kFailed);
  EXPECT_THAT(Stored("a")->reason, HasSubstr("the data is wrong"));
}

TEST_F(CoreTest, WhyAFailureIsPermanentIsSaidAlsoWhereAnotherCameFirst) {
  Run("a", 2);
  StreamEnds("a", 1);
  GoodbyeSaid goodbye{Next("a", 0)};
  goodbye.farewell = Farewell::kFailed;
  goodbye.message = "the data is wrong";
  goodbye.permanent = true;
  Do(goodbye);
  GroupEnds("a", {.killed = true});
  EXPECT_EQ(Stored("a")->state, JobState::kFailed);
  EXPECT_THAT(Stored("a")->reason, HasSubstr("rank 1 (pid 101 on host host) died"));
  EXPECT_THAT(Stored("a")->reason, HasSubstr("the data is wrong"));
}

TEST_F(CoreTest, ACancelEndsAJobThatWaitsForItsNextLaunch) {
  Submit("a", 1);
  Do(LaunchFailed{"a", 1, "no mpirun"});
  Do(CancelAsked{"a", ""});
  Do(TimerFired{"a", 1, TimerKind::kSettle});
  EXPECT_EQ(Stored("a")->state, JobState::kCancelled);
}

TEST_F(CoreTest, AGroupStoppedByASignalGoesOn) {
  Run("a", 2);
  Commit("a", 0, 10, true);
  GoodbyeAll("a", Farewell::kStopped, 10);
  GroupEnds("a");
  EXPECT_EQ(Stored("a")->state, JobState::kStarting);
  EXPECT_TRUE(Of("a").causes.empty());
  EXPECT_EQ(Last<Launch>().resume.step, 10);
}

TEST_F(CoreTest, DifferentDigestsNameTheOddRankAndGoBackBehindIt) {
  Run("a", 3);
  Commit("a", 0, 10, true, {{10, "good"}});
  for (int rank = 1; rank < 3; ++rank) Digest("a", rank, 10, "good");
  Checkpoint("a", 10);
  Commit("a", 10, 15, true);
  Checkpoint("a", 15);
  Digest("a", 1, 20, "bad");
  Digest("a", 2, 20, "fine");
  Commit("a", 15, 20, true, {{20, "fine"}});
  EXPECT_EQ(Last<StoreWarning>().kind, WarningKind::kDivergence);
  EXPECT_EQ(Effects<KillGroup>().size(), 1u);
  ASSERT_EQ(Effects<VoidCheckpoint>().size(), 1u) << "15 was saved when they may have differed already";
  EXPECT_EQ(Last<VoidCheckpoint>().step, 15);
  EXPECT_EQ(Last<VoidSnapshots>().after, 10);
  EXPECT_EQ(Commit("a", 20, 30, true).status.code(), kFailedPrecondition) << "nothing of it counts any more";
  GroupEnds("a", {.exit_code = 137, .killed = true});
  EXPECT_THAT(Stored("a")->reason, HasSubstr("the parameters of rank 1"));
  EXPECT_EQ(Last<Launch>().resume.step, 10);
}

TEST_F(CoreTest, ADivergenceIsNotForgottenWithTheCoordinator) {
  Run("a", 2);
  Commit("a", 0, 10, true, {{10, "x"}});
  Digest("a", 1, 10, "y");
  RestartCoordinator();
  EXPECT_EQ(Effects<KillGroup>().size(), 2u);
  EXPECT_EQ(Hello("a", 0, 2, 100).status.code(), kFailedPrecondition);
  GroupEnds("a", {.exit_code = 137, .killed = true});
  EXPECT_EQ(Last<Launch>().resume.step, 0);
}

TEST_F(CoreTest, DigestsOfAnEarlierGenerationAreNotCompared) {
  Run("a", 2);
  Digest("a", 1, 10, "before");
  StreamEnds("a", 0);
  GroupEnds("a", {.killed = true});
  Connect("a");
  Commit("a", 0, 10, false, {{10, "after"}});
  Digest("a", 1, 10, "after");
  EXPECT_TRUE(Effects<StoreWarning>().empty());
}

TEST_F(CoreTest, AHungGroupIsKilledInTime) {
  Run("a", 2);
  for (int rank = 0; rank < 2; ++rank) Beat("a", rank, 7);
  const int in_five_seconds = 5'000 / static_cast<int>(limits_.watch.count());
  for (int i = 0; i < in_five_seconds - 2; ++i) {
    Tick("a", 1);
    for (int rank = 0; rank < 2; ++rank) Beat("a", rank, 7);
  }
  EXPECT_TRUE(Effects<KillGroup>().empty());
  Tick("a", 1);
  EXPECT_EQ(Effects<KillGroup>().size(), 1u);
  GroupEnds("a", {.killed = true});
  EXPECT_THAT(Stored("a")->reason, HasSubstr("did not get on"));
}

TEST_F(CoreTest, AStoppedRankIsNamed) {
  Run("a", 2);
  Beat("a", 1, 7);
  for (int i = 0; i < 9; ++i) {
    Beat("a", 0, 7);
    Tick("a", 1);
  }
  EXPECT_EQ(Effects<KillGroup>().size(), 1u);
  GroupEnds("a", {.killed = true});
  EXPECT_THAT(Stored("a")->reason, HasSubstr("rank 1 (pid 101 on host host) was not heard of"));
}

TEST_F(CoreTest, LongStepsHaveFiveTimesTheirTime) {
  Run("a", 1);
  Beat("a", 0, 7, Phase::kStep, 2.0);
  for (int i = 0; i < 19; ++i) {
    Tick("a", 1);
    Beat("a", 0, 7, Phase::kStep, 2.0);
  }
  EXPECT_TRUE(Effects<KillGroup>().empty());
  Tick("a", 1);
  EXPECT_EQ(Effects<KillGroup>().size(), 1u);
}

TEST_F(CoreTest, StartUpAndCheckpointsHaveLimitsOfTheirOwn) {
  for (const auto& [id, phase, limit] : {std::tuple{"a", Phase::kStartup, limits_.startup_ticks},
                                         std::tuple{"b", Phase::kCheckpoint, limits_.checkpoint_ticks}}) {
    Run(id, 1);
    Beat(id, 0, 7, phase);
    const size_t kills = Effects<KillGroup>().size();
    for (int i = 1; i < limit; ++i) {
      Tick(id, 1);
      Beat(id, 0, 7, phase);
    }
    EXPECT_EQ(Effects<KillGroup>().size(), kills) << id;
    Tick(id, 1);
    EXPECT_EQ(Effects<KillGroup>().size(), kills + 1) << id;
  }
}

TEST_F(CoreTest, WaitingForALeaseIsNoHang) {
  Run("a", 2);
  for (int i = 0; i < 100; ++i) {
    Tick("a", 1);
    Beat("a", 0, 7, Phase::kLease);
    Beat("a", 1, 7);
  }
  EXPECT_TRUE(Effects<KillGroup>().empty());
}

TEST_F(CoreTest, WorkersThatDoNotConnectAreNotWaitedForForEver) {
  Submit("a", 2);
  Hello("a", 0);
  Do(TimerFired{"a", 1, TimerKind::kStartup});
  EXPECT_EQ(Effects<KillGroup>().size(), 1u);
  GroupEnds("a", {.killed = true});
  EXPECT_THAT(Stored("a")->reason, HasSubstr("only 1 of 2 workers connected"));
}

TEST_F(CoreTest, AGroupThatDoesNotGoAfterItsGoodbyesIsKilled) {
  Run("a", 1);
  Commit("a", 0, 100);
  Goodbye("a", 0, Farewell::kSucceeded, 100);
  Tick("a", limits_.step_ticks - 1);
  EXPECT_TRUE(Effects<KillGroup>().empty());
  Tick("a", 1);
  EXPECT_EQ(Effects<KillGroup>().size(), 1u);
  GroupEnds("a", {.exit_code = 137, .killed = true});
  EXPECT_EQ(Stored("a")->state, JobState::kSucceeded) << "all of it is stored";
}

TEST_F(CoreTest, ALaunchThatFailsIsTriedAgainThenGivenUp) {
  Submit("a", 1);
  for (int64_t generation = 1; generation <= 3; ++generation) {
    Do(LaunchFailed{"a", generation, "no mpirun"});
    EXPECT_EQ(Last<StartTimer>().kind, TimerKind::kSettle);
    EXPECT_EQ(Last<StartTimer>().delay, limits_.relaunch * generation) << "what is wrong may pass";
    Do(TimerFired{"a", generation, TimerKind::kSettle});
  }
  Do(LaunchFailed{"a", 4, "no mpirun"});
  EXPECT_EQ(Stored("a")->state, JobState::kFailed);
  EXPECT_THAT(Stored("a")->reason, HasSubstr("(4) the worker group could not be started: no mpirun"));
  EXPECT_EQ(state_->free_slots(), 4);
}

}  // namespace
}  // namespace lockstep::core
