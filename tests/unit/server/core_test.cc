// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "server/core/apply.h"

namespace lockstep::core {
namespace {

using ::testing::HasSubstr;

class CoreTest : public ::testing::Test {
 protected:
  Outcome Do(const Event& event) {
    state_.Mark();
    Outcome outcome = Apply(state_, event, limits_);
    effects_.insert(effects_.end(), outcome.effects.begin(), outcome.effects.end());
    return outcome;
  }
  void Submit(const JobId& id, int workers, int64_t steps = 100) {
    const Outcome outcome =
        Do(JobSubmitted{id, ++order_, {.workers = workers, .logical_shards = 4, .total_steps = steps}});
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  }
  FromWorker From(const JobId& id, int rank) { return {id, state_.Find(id)->generation, rank}; }
  void HelloAll(const JobId& id) {
    const int workers = state_.Find(id)->shape.workers;
    for (int rank = 0; rank < workers; ++rank) {
      EXPECT_TRUE(Do(HelloSaid{From(id, rank), workers, "host", 100 + rank}).status.ok());
    }
  }
  // The newest stored state of a job.
  std::optional<StoreState> Stored(const JobId& id) const {
    std::optional<StoreState> found;
    for (const Effect& effect : effects_) {
      if (const auto* s = std::get_if<StoreState>(&effect); s != nullptr && s->job == id) found = *s;
    }
    return found;
  }
  template <typename T>
  std::vector<T> Effects() const {
    std::vector<T> found;
    for (const Effect& effect : effects_) {
      if (const auto* e = std::get_if<T>(&effect)) found.push_back(*e);
    }
    return found;
  }

  State state_{4};
  Limits limits_;
  int64_t order_ = 0;
  std::vector<Effect> effects_;
};

TEST_F(CoreTest, AJobRunsFromSubmitToSuccess) {
  Submit("a", 2);
  ASSERT_EQ(Effects<Launch>().size(), 1u);
  EXPECT_EQ(Stored("a")->state, JobState::kStarting);
  HelloAll("a");
  EXPECT_EQ(Stored("a")->state, JobState::kRunning);
  for (int rank = 0; rank < 2; ++rank) EXPECT_TRUE(Do(LeaseAsked{From("a", rank), 1'000'000}).status.ok());
  const auto leases = Effects<SendLease>();
  ASSERT_EQ(leases.size(), 2u);
  EXPECT_EQ(leases[0].end_step, 100) << "never past the job's end";
  EXPECT_EQ(leases[0].shards.end, leases[1].shards.first);
  EXPECT_EQ(leases[1].shards.end, 4);
  EXPECT_TRUE(Do(StepsReported{From("a", 0), 0, 100}).status.ok());
  for (int rank = 0; rank < 2; ++rank) {
    GoodbyeSaid goodbye{From("a", rank)};
    goodbye.farewell = Farewell::kSucceeded;
    goodbye.step = 100;
    EXPECT_TRUE(Do(goodbye).status.ok());
    EXPECT_TRUE(Do(SessionEnded{From("a", rank), ""}).status.ok());
  }
  Do(GroupExited{"a", 1, {}});
  EXPECT_EQ(Stored("a")->state, JobState::kSucceeded);
  EXPECT_EQ(state_.free_slots(), 4);
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
  EXPECT_EQ(state_.free_slots(), 1);
}

TEST_F(CoreTest, AStaleGenerationChangesNothing) {
  Submit("a", 1);
  HelloAll("a");
  const size_t before = effects_.size();
  FromWorker stale{"a", 0, 0};
  EXPECT_EQ(Do(StepsReported{stale, 0, 10}).status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Do(LeaseAsked{stale, 10}).status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Do(HelloSaid{stale, 1, "h", 1}).status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(effects_.size(), before);
  EXPECT_EQ(state_.Find("a")->committed, 0);
}

TEST_F(CoreTest, TheLedgerHasNoGapsAndNoDoubles) {
  Submit("a", 1);
  HelloAll("a");
  Do(LeaseAsked{From("a", 0), 100});
  EXPECT_TRUE(Do(StepsReported{From("a", 0), 0, 10}).status.ok());
  EXPECT_FALSE(Do(StepsReported{From("a", 0), 20, 30}).status.ok());
  EXPECT_EQ(state_.Find("a")->committed, 10);
  const size_t rows = Effects<StoreSteps>().size();
  Do(StepsReported{From("a", 0), 0, 10});
  EXPECT_EQ(Effects<StoreSteps>().size(), rows) << "a repeat adds no row";
  EXPECT_TRUE(Do(StepsReported{From("a", 0), 10, 20}).status.ok());
  EXPECT_EQ(state_.Find("a")->committed, 20);
}

TEST_F(CoreTest, ADeadRankFailsTheJobByName) {
  Submit("a", 2);
  HelloAll("a");
  Do(SessionEnded{From("a", 1), ""});
  EXPECT_FALSE(Effects<StartTimer>().empty());
  Do(SessionEnded{From("a", 0), ""});
  Do(GroupExited{"a", 1, {.exit_code = 137}});
  EXPECT_EQ(Stored("a")->state, JobState::kFailed);
  EXPECT_THAT(Stored("a")->reason, HasSubstr("rank 1 (pid 101 on host"));
}

TEST_F(CoreTest, DifferentDigestsNameTheOddRank) {
  Submit("a", 3);
  HelloAll("a");
  for (int rank = 0; rank < 3; ++rank) Do(DigestReported{From("a", rank), 10, rank == 1 ? "bad" : "good"});
  for (int rank = 0; rank < 3; ++rank) Do(SessionEnded{From("a", rank), ""});
  Do(GroupExited{"a", 1, {}});
  EXPECT_EQ(Stored("a")->state, JobState::kFailed);
  EXPECT_THAT(Stored("a")->reason, HasSubstr("rank 1"));
}

TEST_F(CoreTest, ADrainedJobGoesBackToTheQueueAndOnFromItsCheckpoint) {
  Submit("a", 1);
  HelloAll("a");
  Do(LeaseAsked{From("a", 0), 100});
  Do(StepsReported{From("a", 0), 0, 40});
  Do(DrainAsked{});
  ASSERT_EQ(Effects<SendStop>().size(), 1u);
  EXPECT_TRUE(Effects<SendStop>()[0].checkpoint);
  Do(CheckpointReported{From("a", 0), 40, "/c/40", false});
  GoodbyeSaid goodbye{From("a", 0)};
  goodbye.farewell = Farewell::kStopped;
  goodbye.step = 40;
  Do(goodbye);
  Do(SessionEnded{From("a", 0), ""});
  Do(GroupExited{"a", 1, {}});
  EXPECT_EQ(Stored("a")->state, JobState::kQueued);
  EXPECT_EQ(Effects<Drained>().size(), 1u);

  Job job = *state_.Find("a");
  State next(4);
  next.Mark();
  EXPECT_TRUE(Apply(next, JobRecovered{job}, limits_).status.ok());
  const Outcome started = StartQueued(next, limits_);
  ASSERT_TRUE(started.status.ok());
  EXPECT_EQ(next.Find("a")->generation, 2);
  Do(DrainAsked{});
  const Outcome hello = Apply(next, HelloSaid{{"a", 2, 0}, 1, "host", 1}, limits_);
  bool welcomed = false;
  for (const Effect& effect : hello.effects) {
    if (const auto* w = std::get_if<SendWelcome>(&effect)) {
      welcomed = true;
      EXPECT_EQ(w->resume.step, 40);
      EXPECT_EQ(w->resume.path, "/c/40");
    }
  }
  EXPECT_TRUE(welcomed);
}

TEST_F(CoreTest, ACancelIsAskedForThenForced) {
  Submit("a", 1);
  HelloAll("a");
  EXPECT_TRUE(Do(CancelAsked{"a", "enough"}).status.ok());
  EXPECT_EQ(Effects<SendStop>().size(), 1u);
  Do(TimerFired{"a", 1, TimerKind::kKill});
  EXPECT_EQ(Effects<KillGroup>().size(), 1u);
  Do(SessionEnded{From("a", 0), ""});
  Do(GroupExited{"a", 1, {.exit_code = 143}});
  EXPECT_EQ(Stored("a")->state, JobState::kCancelled);
}

TEST_F(CoreTest, AChangeThatCannotBeStoredIsTakenBack) {
  Submit("a", 1);
  HelloAll("a");
  Do(LeaseAsked{From("a", 0), 100});
  state_.Mark();
  ASSERT_TRUE(Apply(state_, StepsReported{From("a", 0), 0, 10}, limits_).status.ok());
  state_.Rollback();
  EXPECT_EQ(state_.Find("a")->committed, 0);
  EXPECT_TRUE(Do(StepsReported{From("a", 0), 0, 10}).status.ok());
}

// Whatever comes, in whatever order: slots are never overdrawn, the ledger never goes back or past the
// end, generations only grow, and nothing crashes.
TEST_F(CoreTest, RandomEventsKeepTheInvariants) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<uint32_t>(n)); };
    State state(4);
    int64_t order = 0;
    std::map<JobId, int64_t> generations, ledger_end;
    for (int i = 0; i < 400; ++i) {
      const JobId id = std::string(1, static_cast<char>('a' + below(5)));
      const Job* job = state.Find(id);
      const int64_t generation = job == nullptr ? 1 : job->generation - (below(8) == 0 ? 1 : 0);
      const FromWorker from{id, generation, below(3)};
      Event event;
      switch (below(11)) {
        case 0:
        case 1: {
          if (job != nullptr || generations.contains(id)) continue;
          event = JobSubmitted{id, ++order, {.workers = 1 + below(4), .logical_shards = 4, .total_steps = 50}};
          break;
        }
        case 2:
        case 3:
          event = HelloSaid{from, job == nullptr ? 1 : job->shape.workers, "h", 1 + i};
          break;
        case 4:
          event = LeaseAsked{from, 1 + below(60)};
          break;
        case 5: {
          const int64_t first = job == nullptr ? 0 : job->committed + (below(5) == 0 ? below(9) : 0);
          event = StepsReported{from, first, first + 1 + below(20)};
          break;
        }
        case 6:
          event = DigestReported{from, below(3), below(20) == 0 ? "x" : "y"};
          break;
        case 7: {
          GoodbyeSaid goodbye{from};
          goodbye.farewell = static_cast<Farewell>(1 + below(3));
          goodbye.step = below(51);
          event = goodbye;
          break;
        }
        case 8:
          event = SessionEnded{from, ""};
          break;
        case 9:
          event = GroupExited{id, generation, {.exit_code = below(2)}};
          break;
        default:
          event = TimerFired{id, generation, static_cast<TimerKind>(below(3))};
          break;
      }
      state.Mark();
      const Outcome outcome = Apply(state, event, limits_);
      EXPECT_TRUE(outcome.status.ok() || outcome.effects.empty()) << "seed " << seed;
      for (const Effect& effect : outcome.effects) {
        if (const auto* g = std::get_if<StoreGeneration>(&effect)) {
          ASSERT_EQ(g->generation, generations[g->job] + 1) << "seed " << seed;
          generations[g->job] = g->generation;
          ledger_end[g->job] = g->first_step;
        } else if (const auto* s = std::get_if<StoreSteps>(&effect)) {
          ASSERT_EQ(s->first_step, ledger_end[s->job]) << "seed " << seed;
          ASSERT_EQ(s->generation, generations[s->job]) << "seed " << seed;
          ASSERT_LE(s->end_step, 50);
          ledger_end[s->job] = s->end_step;
        }
      }
      ASSERT_GE(state.free_slots(), 0) << "seed " << seed;
      ASSERT_LE(state.free_slots(), 4) << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace lockstep::core
