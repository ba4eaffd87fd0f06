// SPDX-License-Identifier: Apache-2.0
// A job's way through the core, the fences, and the ledger.
#include "tests/unit/server/core_fixture.h"

namespace lockstep::core {
namespace {

using ::testing::HasSubstr;
constexpr absl::StatusCode kFailedPrecondition = absl::StatusCode::kFailedPrecondition;

TEST_F(CoreTest, AJobRunsFromSubmitToSuccess) {
  Submit("a", 2);
  ASSERT_EQ(Effects<Launch>().size(), 1u);
  EXPECT_EQ(Stored("a")->state, JobState::kStarting);
  Connect("a");
  EXPECT_EQ(Stored("a")->state, JobState::kRunning);
  const auto leases = Effects<SendLease>();
  ASSERT_EQ(leases.size(), 2u);
  EXPECT_EQ(leases[0].end_step, 100) << "never past the job's end";
  EXPECT_EQ(leases[0].shards.end, leases[1].shards.first);
  EXPECT_EQ(leases[1].shards.end, 8);
  EXPECT_TRUE(Commit("a", 0, 100).status.ok());
  GoodbyeAll("a", Farewell::kSucceeded, 100);
  GroupEnds("a");
  EXPECT_EQ(Stored("a")->state, JobState::kSucceeded);
  EXPECT_EQ(state_->free_slots(), 4);
  EXPECT_EQ(Effects<DropSnapshots>().size(), 1u);
}

TEST_F(CoreTest, TheGenerationIsStoredBeforeItIsLaunched) {
  Submit("a", 2);
  size_t stored = SIZE_MAX, launched = SIZE_MAX;
  for (size_t i = 0; i < effects_.size(); ++i) {
    if (std::holds_alternative<StoreGeneration>(effects_[i])) stored = i;
    if (std::holds_alternative<Launch>(effects_[i])) launched = i;
  }
  EXPECT_LT(stored, launched);
  EXPECT_NE(launched, SIZE_MAX);
}

TEST_F(CoreTest, SlotsAreGivenInOrderAndAllAtOnce) {
  Submit("a", 3);
  Submit("b", 4);
  Submit("c", 1);
  // c would fit beside a, but b came first.
  ASSERT_EQ(Effects<Launch>().size(), 1u);
  EXPECT_EQ(Effects<Launch>()[0].job, "a");
  EXPECT_EQ(state_->free_slots(), 1);
}

TEST_F(CoreTest, AStaleGenerationChangesNothing) {
  Run("a", 1);
  const size_t before = effects_.size();
  const FromWorker stale{"a", 0, 0, 1, 1};
  EXPECT_EQ(Do(StepsReported{stale, 0, 10}).status.code(), kFailedPrecondition);
  EXPECT_EQ(Do(LeaseAsked{stale, 10}).status.code(), kFailedPrecondition);
  EXPECT_EQ(Do(HelloSaid{stale, 1, "h", 1}).status.code(), kFailedPrecondition);
  EXPECT_EQ(Do(HeartbeatSaid{stale, 1}).status.code(), kFailedPrecondition);
  EXPECT_EQ(Do(CheckpointReported{stale, 10, "/c"}).status.code(), kFailedPrecondition);
  EXPECT_EQ(Do(GoodbyeSaid{stale, Farewell::kFailed}).status.code(), kFailedPrecondition);
  EXPECT_TRUE(Do(SessionEnded{stale, true}).status.ok());
  EXPECT_TRUE(Do(GroupExited{"a", 0, {}}).status.ok());
  EXPECT_TRUE(Do(TimerFired{"a", 0, TimerKind::kKill}).status.ok());
  EXPECT_EQ(effects_.size(), before);
  EXPECT_EQ(Of("a").committed, 0);
}

TEST_F(CoreTest, TheGroupsIdGoesToItsRanksAlone) {
  Run("a", 3);
  Run("b", 1);
  // Asked for before it is known.
  EXPECT_TRUE(Do(GroupIdAsked{From("a", 2)}).status.ok());
  EXPECT_TRUE(Effects<SendGroupId>().empty());
  EXPECT_TRUE(Do(GroupIdGiven{From("a", 0), "meet here"}).status.ok());
  ASSERT_EQ(Effects<SendGroupId>().size(), 1u);
  EXPECT_EQ(Last<SendGroupId>().job, "a");
  EXPECT_EQ(Last<SendGroupId>().generation, 1);
  EXPECT_EQ(Last<SendGroupId>().rank, 2);
  EXPECT_EQ(Last<SendGroupId>().id, "meet here");
  // And after; again on a new stream of rank 0's.
  EXPECT_TRUE(Do(GroupIdAsked{From("a", 1)}).status.ok());
  EXPECT_EQ(Last<SendGroupId>().rank, 1);
  EXPECT_TRUE(Do(GroupIdGiven{From("a", 0), "meet here"}).status.ok());
  EXPECT_EQ(Effects<SendGroupId>().size(), 2u);
  EXPECT_TRUE(Do(GroupIdAsked{From("b", 0)}).status.ok());
  EXPECT_EQ(Effects<SendGroupId>().size(), 2u);
}

TEST_F(CoreTest, AGroupsIdIsRefusedWhereRanksWouldWaitForEver) {
  Run("a", 2);
  EXPECT_EQ(Do(GroupIdGiven{From("a", 1), "id"}).status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Do(GroupIdGiven{From("a", 0), ""}).status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Do(GroupIdGiven{From("a", 0), std::string(257, 'x')}).status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(Do(GroupIdGiven{From("a", 0), "id"}).status.ok());
  EXPECT_EQ(Do(GroupIdGiven{From("a", 0), "another"}).status.code(), kFailedPrecondition);
  const FromWorker first = From("a", 1);
  // The next generation has to meet anew.
  StreamEnds("a", 1);
  GroupEnds("a", {.exit_code = 1});
  HelloAll("a");
  ASSERT_EQ(Of("a").generation, 2);
  EXPECT_EQ(Do(GroupIdAsked{first}).status.code(), kFailedPrecondition);
  EXPECT_EQ(Do(GroupIdGiven{{"a", 1, 0, 1}, "id"}).status.code(), kFailedPrecondition);
  EXPECT_TRUE(Do(GroupIdAsked{From("a", 1)}).status.ok());
  EXPECT_TRUE(Effects<SendGroupId>().empty());
  EXPECT_TRUE(Do(GroupIdGiven{From("a", 0), "id 2"}).status.ok());
  EXPECT_EQ(Last<SendGroupId>().generation, 2);
  EXPECT_EQ(Last<SendGroupId>().id, "id 2");
}

TEST_F(CoreTest, AnOlderStreamChangesNothing) {
  Run("a", 1);
  EXPECT_TRUE(Hello("a", 0, 2, 100).status.ok());
  const size_t before = effects_.size();
  const FromWorker old{"a", 1, 0, 1, 1};
  EXPECT_EQ(Do(StepsReported{old, 0, 10}).status.code(), kFailedPrecondition);
  EXPECT_EQ(Do(LeaseAsked{old, 10}).status.code(), kFailedPrecondition);
  EXPECT_EQ(Hello("a", 0, 1).status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(Do(SessionEnded{old, true}).status.ok());
  EXPECT_EQ(effects_.size(), before);
  EXPECT_TRUE(Of("a").ranks[0].connected);
}

TEST_F(CoreTest, TheLedgerHasNoGapsAndNoDoubles) {
  Run("a", 1);
  EXPECT_TRUE(Commit("a", 0, 10).status.ok());
  EXPECT_EQ(Commit("a", 20, 30).status.code(), kFailedPrecondition);
  EXPECT_EQ(Commit("a", 5, 15).status.code(), kFailedPrecondition);
  EXPECT_EQ(Commit("a", 0, 10).status.code(), kFailedPrecondition) << "a new report of old steps";
  EXPECT_EQ(Of("a").committed, 10);
  EXPECT_TRUE(Commit("a", 10, 20).status.ok());
  EXPECT_EQ(Of("a").committed, 20);
}

TEST_F(CoreTest, AReportThatComesAgainIsAcknowledgedAndChangesNothing) {
  Run("a", 1);
  EXPECT_TRUE(Commit("a", 0, 10).status.ok());
  const size_t rows = Effects<StoreSteps>().size(), acks = Effects<SendAck>().size();
  FromWorker again = From("a", 0);
  again.report = 1;
  EXPECT_TRUE(Do(StepsReported{again, 0, 10}).status.ok());
  EXPECT_EQ(Effects<StoreSteps>().size(), rows);
  ASSERT_EQ(Effects<SendAck>().size(), acks + 1);
  EXPECT_EQ(Last<SendAck>().report, 1);
  again.report = 3;
  EXPECT_EQ(Do(StepsReported{again, 10, 20}).status.code(), kFailedPrecondition) << "report 2 is missing";
  again.report = 0;
  EXPECT_EQ(Do(StepsReported{again, 10, 20}).status.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CoreTest, OnlyLeasedStepsAreCommitted) {
  Submit("a", 1);
  HelloAll("a");
  Do(LeaseAsked{From("a", 0), 10});
  EXPECT_EQ(Commit("a", 0, 11).status.code(), kFailedPrecondition);
  EXPECT_TRUE(Commit("a", 0, 10).status.ok());
  EXPECT_EQ(Commit("a", 10, 11).status.code(), kFailedPrecondition);
}

TEST_F(CoreTest, ALeaseThatWasLostWithItsStreamIsGivenAgain) {
  Submit("a", 1);
  HelloAll("a");
  Do(LeaseAsked{From("a", 0), 10});
  Do(LeaseAsked{From("a", 0), 10});
  // The second one never arrived.
  Hello("a", 0, 2, 10);
  Do(LeaseAsked{From("a", 0), 10});
  EXPECT_EQ(Last<SendLease>().first_step, 10);
  EXPECT_EQ(Last<SendLease>().end_step, 20);
}

TEST_F(CoreTest, OnlyRankZeroCommitsAndSaves) {
  Run("a", 2);
  EXPECT_EQ(Do(StepsReported{Next("a", 1), 0, 10}).status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Do(EpochReported{Next("a", 1), 1}).status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Do(CheckpointReported{Next("a", 1), 1, "/c"}).status.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CoreTest, AnEpochIsSeenOnce) {
  Run("a", 1);
  Do(EpochReported{Next("a", 0), 1});
  Do(EpochReported{Next("a", 0), 1});
  EXPECT_EQ(Effects<StoreEpoch>().size(), 1u);
}

TEST_F(CoreTest, ACancelIsAskedForThenForced) {
  Run("a", 1);
  EXPECT_TRUE(Do(CancelAsked{"a", "enough"}).status.ok());
  EXPECT_EQ(Effects<SendStop>().size(), 1u);
  EXPECT_FALSE(Last<SendStop>().checkpoint);
  Do(TimerFired{"a", 1, TimerKind::kKill});
  EXPECT_EQ(Effects<KillGroup>().size(), 1u);
  GroupEnds("a", {.exit_code = 143});
  EXPECT_EQ(Stored("a")->state, JobState::kCancelled);
  EXPECT_EQ(Do(CancelAsked{"a", "again"}).status.code(), absl::StatusCode::kNotFound);
}

TEST_F(CoreTest, ACancelOutlivesTheCoordinator) {
  Run("a", 1);
  Do(CancelAsked{"a", "enough"});
  RestartCoordinator();
  const size_t stops = Effects<SendStop>().size();
  EXPECT_TRUE(Hello("a", 0, 2, 100).status.ok());
  EXPECT_EQ(Effects<SendStop>().size(), stops + 1);
  GroupEnds("a");
  EXPECT_EQ(Stored("a")->state, JobState::kCancelled);
}

TEST_F(CoreTest, AChangeThatCannotBeStoredIsTakenBack) {
  Run("a", 1);
  state_->Mark();
  ASSERT_TRUE(Apply(*state_, StepsReported{Next("a", 0), 0, 10}, limits_).status.ok());
  state_->Rollback();
  EXPECT_EQ(Of("a").committed, 0);
  EXPECT_TRUE(Commit("a", 0, 10).status.ok());
  state_->Mark();
  ASSERT_TRUE(Apply(*state_, JobSubmitted{"b", 9, {.workers = 1, .total_steps = 5}}, limits_).status.ok());
  state_->Rollback();
  EXPECT_EQ(state_->Find("b"), nullptr);
  EXPECT_EQ(state_->free_slots(), 3);
  EXPECT_EQ(state_->active().size(), 1u);
}

TEST_F(CoreTest, AJobThatCannotBeginFromAnotherJobsStepsFails) {
  Do(JobSubmitted{"a", 1, {.workers = 1, .logical_shards = 1, .total_steps = 9, .first_step = 5}, ""});
  EXPECT_EQ(Stored("a")->state, JobState::kFailed);
  EXPECT_TRUE(Effects<Launch>().empty()) << "initial weights at step 5 would be other bits";
}

}  // namespace
}  // namespace lockstep::core
