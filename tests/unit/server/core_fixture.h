// SPDX-License-Identifier: Apache-2.0
// Short ways to say what happens to a coordinator's core, for its tests.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "server/core/apply.h"

namespace lockstep::core {

class CoreTest : public ::testing::Test {
 protected:
  Outcome Do(const Event& event) {
    state_->Mark();
    Outcome outcome = Apply(*state_, event, limits_);
    Keep(outcome);
    return outcome;
  }
  void Submit(const JobId& id, int workers, int64_t steps = 100) {
    const Outcome outcome =
        Do(JobSubmitted{id, ++order_, {.workers = workers, .logical_shards = 8, .total_steps = steps}});
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  }
  const Job& Of(const JobId& id) const { return *state_->Find(id); }
  // The rank on its newest stream.
  FromWorker From(const JobId& id, int rank) {
    return {id, Of(id).generation, rank, std::max<int64_t>(1, Of(id).ranks[rank].session)};
  }
  // With the next report's number.
  FromWorker Next(const JobId& id, int rank) {
    FromWorker from = From(id, rank);
    from.report = Of(id).ranks[rank].last_report + 1;
    return from;
  }
  Outcome Hello(const JobId& id, int rank, int64_t session = 1, int64_t leased_end = 0) {
    HelloSaid hello{{id, Of(id).generation, rank, session}};
    hello.world_size = Of(id).group_size();
    hello.host = "host";
    hello.pid = 100 + rank;
    hello.leased_end = leased_end;
    return Do(hello);
  }
  void HelloAll(const JobId& id) {
    const int workers = Of(id).group_size();
    for (int rank = 0; rank < workers; ++rank) EXPECT_TRUE(Hello(id, rank).status.ok());
  }
  // Submits the job, and lets its group connect and get leases for all.
  void Run(const JobId& id, int workers, int64_t steps = 100) {
    Submit(id, workers, steps);
    Connect(id);
  }
  void Connect(const JobId& id) {
    HelloAll(id);
    for (int rank = 0; rank < Of(id).group_size(); ++rank) {
      EXPECT_TRUE(Do(LeaseAsked{From(id, rank), 1'000'000}).status.ok());
    }
  }
  Outcome Commit(const JobId& id, int64_t first, int64_t end, bool snapshot = false,
                 std::vector<std::pair<int64_t, std::string>> digests = {}) {
    return Do(StepsReported{Next(id, 0), first, end, snapshot, std::move(digests)});
  }
  Outcome Digest(const JobId& id, int rank, int64_t step, const std::string& digest) {
    return Do(DigestReported{Next(id, rank), {{step, digest}}});
  }
  Outcome Checkpoint(const JobId& id, int64_t step) {
    return Do(CheckpointReported{Next(id, 0), step, "/c/" + std::to_string(step), false});
  }
  void Goodbye(const JobId& id, int rank, Farewell farewell, int64_t step = 0) {
    GoodbyeSaid goodbye{Next(id, rank)};
    goodbye.farewell = farewell;
    goodbye.step = step;
    const Outcome outcome = Do(goodbye);
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  }
  void GoodbyeAll(const JobId& id, Farewell farewell, int64_t step = 0) {
    for (int rank = 0; rank < Of(id).group_size(); ++rank) Goodbye(id, rank, farewell, step);
  }
  Outcome StreamEnds(const JobId& id, int rank, bool process_gone = true) {
    return Do(SessionEnded{From(id, rank), process_gone, ""});
  }
  void StreamsEnd(const JobId& id) {
    for (int rank = 0; rank < Of(id).group_size(); ++rank) StreamEnds(id, rank, false);
  }
  // The group of the job is gone, and so are its streams.
  void GroupEnds(const JobId& id, GroupExit exit = {}) {
    const int64_t generation = Of(id).generation;
    StreamsEnd(id);
    Do(GroupExited{id, generation, exit});
  }
  void Tick(const JobId& id, int times) {
    const int64_t generation = Of(id).generation;
    for (int i = 0; i < times; ++i) Do(TimerFired{id, generation, TimerKind::kWatch});
  }
  Outcome Beat(const JobId& id, int rank, int64_t progress, Phase phase = Phase::kStep, double seconds = 0.01) {
    return Do(HeartbeatSaid{From(id, rank), progress, phase, seconds});
  }

  // The coordinator is killed and starts again with what is stored.
  void RestartCoordinator(int slots = 4) {
    std::vector<Job> jobs;
    for (const auto& [order, job] : state_->jobs()) jobs.push_back(AsStored(job));
    state_ = std::make_unique<State>(slots);
    for (const Job& job : jobs) Do(JobRecovered{job});
    Keep(StartQueued(*state_, limits_));
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
  template <typename T>
  T Last() const {
    const std::vector<T> found = Effects<T>();
    EXPECT_FALSE(found.empty());
    return found.empty() ? T{} : found.back();
  }

  std::unique_ptr<State> state_ = std::make_unique<State>(4);
  Limits limits_;
  int64_t order_ = 0;
  std::vector<Effect> effects_;

 private:
  void Keep(const Outcome& outcome) { effects_.insert(effects_.end(), outcome.effects.begin(), outcome.effects.end()); }
  // Only what the store holds of it.
  static Job AsStored(const Job& job) {
    Job stored;
    std::tie(stored.id, stored.order, stored.shape, stored.state, stored.generation) =
        std::tie(job.id, job.order, job.shape, job.state, job.generation);
    std::tie(stored.committed, stored.checkpoints, stored.snapshots, stored.epochs, stored.high_water) =
        std::tie(job.committed, job.checkpoints, job.snapshots, job.epochs, job.high_water);
    std::tie(stored.restarts, stored.stopped_at, stored.cancel_requested, stored.cancel_reason) =
        std::tie(job.restarts, job.stopped_at, job.cancel_requested, job.cancel_reason);
    for (const Rank& rank : job.ranks) {
      Rank known;
      std::tie(known.seen, known.session, known.last_report, known.host, known.pid, known.farewell) =
          std::tie(rank.seen, rank.session, rank.last_report, rank.host, rank.pid, rank.farewell);
      known.leased_end = job.committed;
      stored.ranks.push_back(known);
    }
    return stored;
  }
};

}  // namespace lockstep::core
