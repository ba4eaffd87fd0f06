// SPDX-License-Identifier: Apache-2.0
// Whatever comes, in whatever order, from workers that keep no rule at all.
#include <map>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "tests/unit/server/core_fixture.h"

namespace lockstep::core {
namespace {

constexpr int kSteps = 50;

class RandomEvents {
 public:
  explicit RandomEvents(uint32_t seed) : random_(seed) {}

  void Run(int events) {
    for (int i = 0; i < events && !::testing::Test::HasFatalFailure(); ++i) {
      const JobId id(1, static_cast<char>('a' + Below(5)));
      state_.Mark();
      const bool rolls_back = Below(20) == 0;
      const std::map<JobId, int64_t> committed = Committed();
      const Outcome outcome = Apply(state_, Next(id), limits_);
      EXPECT_TRUE(outcome.status.ok() || outcome.effects.empty());
      if (rolls_back || !outcome.status.ok()) {
        if (rolls_back) state_.Rollback();
        EXPECT_EQ(Committed(), committed);
        continue;
      }
      for (const Effect& effect : outcome.effects) Check(effect);
      ASSERT_GE(state_.free_slots(), 0);
      ASSERT_LE(state_.free_slots(), 4);
    }
  }

  std::set<size_t> kinds;

 private:
  int Below(int n) { return static_cast<int>(random_() % static_cast<uint32_t>(n)); }

  std::map<JobId, int64_t> Committed() const {
    std::map<JobId, int64_t> committed;
    for (const auto& [order, job] : state_.jobs()) committed[job.id] = job.committed;
    return committed;
  }

  // Mostly the right number, stream and generation.
  FromWorker From(const Job* job, const JobId& id, int rank) {
    FromWorker from{id, job == nullptr ? 1 : job->generation - (Below(8) == 0 ? 1 : 0), rank};
    if (job == nullptr || from.rank >= job->group_size()) return from;
    from.session = job->ranks[from.rank].session - (Below(12) == 0 ? 1 : 0);
    const int off = Below(12);
    from.report = job->ranks[from.rank].last_report + (off == 0 ? 2 : off == 1 ? 0 : 1);
    return from;
  }

  Event Next(const JobId& id) {
    const Job* job = state_.Find(id);
    const int kind = Below(job == nullptr ? 2 : 18);
    const bool of_rank_0 = kind == 6 || kind == 7 || kind == 14 || kind == 16;
    const FromWorker from = From(job, id, of_rank_0 && Below(9) != 0 ? 0 : Below(3));
    const int64_t committed = job == nullptr ? 0 : job->committed;
    switch (kind) {
      case 0:
        if (job == nullptr && ended_.contains(id)) return ResumeAsked{ended_[id], std::nullopt};
        return JobSubmitted{id, ++order_, {.workers = 1 + Below(4), .logical_shards = 4, .total_steps = kSteps}};
      case 1: {
        if (job != nullptr || !ended_.contains(id)) return ScaleAsked{id, Below(6)};
        Job ended = ended_[id];
        return ResumeAsked{ended, Below(2) == 0 ? std::optional<int64_t>(0) : std::nullopt};
      }
      case 2:
      case 3:
      case 4: {
        HelloSaid hello{from, job->group_size(), "h", 1};
        hello.session += 1;
        hello.leased_end = Below(kSteps + 9);
        return hello;
      }
      case 5:
        return LeaseAsked{from, Below(60)};
      case 6:
      case 7: {
        const int64_t first = committed + (Below(5) == 0 ? Below(9) : 0);
        return StepsReported{from, first, first + 1 + Below(9), Below(2) == 0, {{first, Below(9) == 0 ? "x" : "y"}}};
      }
      case 8:
        return DigestReported{from, {{committed, Below(9) == 0 ? "x" : "y"}}};
      case 9:
        return GoodbyeSaid{from, static_cast<Farewell>(Below(4)), "", Below(51), Below(20) == 0, Below(4) != 0};
      case 10:
        return SessionEnded{from, Below(4) == 0, Below(9) == 0 ? "refused" : ""};
      case 11:
        return GroupExited{id, from.generation, {.exit_code = Below(2), .reported = Below(4) != 0}};
      case 12:
        return TimerFired{id, from.generation, static_cast<TimerKind>(Below(4))};
      case 13:
        return HeartbeatSaid{from, Below(100), static_cast<Phase>(1 + Below(4)), Below(3) * 1.0};
      case 14:
        return CheckpointReported{from, Below(3) == 0 ? Below(kSteps + 2) : committed, "/c", Below(3) == 0};
      case 15:
        if (Below(2) != 0) return WarningReported{from};
        return EpochReported{from, Below(9), committed, committed > kSteps / 2};
      case 16:
        if (Below(2) != 0) return GroupIdAsked{from};
        return GroupIdGiven{from, Below(9) == 0 ? "other" : "id"};
      default:
        return Below(2) == 0 ? Event(CancelAsked{id, ""}) : Event(LaunchFailed{id, from.generation, "no"});
    }
  }

  void Check(const Effect& effect) {
    kinds.insert(effect.index());
    if (const auto* g = std::get_if<StoreGeneration>(&effect)) {
      ASSERT_EQ(g->generation, generations_[g->job] + 1);
      ASSERT_LE(g->first_step, ledger_end_[g->job]);
      generations_[g->job] = g->generation;
      ledger_end_[g->job] = g->first_step;
    } else if (const auto* s = std::get_if<StoreSteps>(&effect)) {
      ASSERT_EQ(s->first_step, ledger_end_[s->job]);
      ASSERT_EQ(s->generation, generations_[s->job]);
      ASSERT_LE(s->end_step, kSteps);
      ledger_end_[s->job] = s->end_step;
    } else if (const auto* l = std::get_if<Launch>(&effect)) {
      ASSERT_EQ(l->generation, generations_[l->job]);
      ASSERT_EQ(l->resume.step, ledger_end_[l->job]);
    } else if (const auto* state = std::get_if<StoreState>(&effect); state != nullptr && IsEnded(state->state)) {
      Job ended{.id = state->job, .order = ++order_, .shape = {.logical_shards = 4, .total_steps = kSteps}};
      ended.state = state->state;
      ended.generation = generations_[state->job];
      ended.committed = ledger_end_[state->job];
      ended_[state->job] = ended;
    }
  }

  std::mt19937 random_;
  State state_{4};
  const Limits limits_;
  int64_t order_ = 0;
  std::map<JobId, int64_t> generations_, ledger_end_;
  std::map<JobId, Job> ended_;
};

TEST(CoreRandomTest, RandomEventsKeepTheInvariants) {
  std::set<size_t> kinds;
  for (uint32_t seed = 0; seed < 600 && !::testing::Test::HasFatalFailure(); ++seed) {
    SCOPED_TRACE(seed);
    RandomEvents events(seed);
    events.Run(600);
    kinds.insert(events.kinds.begin(), events.kinds.end());
  }
  // All that the core can do happens here, but for draining.
  std::string missing;
  for (size_t kind = 0; kind < std::variant_size_v<Effect>; ++kind) {
    if (!kinds.contains(kind)) absl::StrAppend(&missing, kind, " ");
  }
  EXPECT_EQ(kinds.size(), std::variant_size_v<Effect> - 1) << missing;
}

}  // namespace
}  // namespace lockstep::core
