// SPDX-License-Identifier: Apache-2.0
#include "server/store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <tuple>
#include <vector>

#include "tests/unit/server/store_fixture.h"

namespace lockstep::store {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

// A ledger row as first step, end, generation, void.
std::vector<std::tuple<int64_t, int64_t, int64_t, bool>> Rows(const Store& store, const std::string& job_id) {
  std::vector<std::tuple<int64_t, int64_t, int64_t, bool>> rows;
  const auto ledger = *store.Ledger(job_id);
  for (const LedgerRow& row : ledger) {
    rows.emplace_back(row.first_step, row.end_step, row.generation, row.voided);
  }
  return rows;
}

TEST_F(StoreTest, WhatWasWrittenIsThereAfterReopening) {
  ASSERT_TRUE(store_
                  ->Write({NewJob("a", 1), AppendEvent{"a", 1, "one"}, AppendEvent{"a", 2, "two"},
                           OpenGeneration{"a", 1, 0}, AppendLedger{"a", 1, 0, 10},
                           InsertCheckpoint{"a", 1, 10, "/c/10", false}, InsertRequestId{"r", "f", "a"}})
                  .ok());
  Open();
  EXPECT_EQ(store_->GetJob("a")->spec, "spec");
  EXPECT_EQ(store_->GetJob("a")->last_sequence, 2);
  EXPECT_EQ(store_->Events("a", 1, 10)->at(0).body, "two");
  EXPECT_EQ(store_->Ledger("a")->size(), 1u);
  EXPECT_EQ((*store_->FindRequest("r"))->job_id, "a");
  EXPECT_EQ(*store_->LastOrder(), 1);
  EXPECT_EQ(store_->GetJob("b").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(StoreTest, SnapshotsThatAreVoidAreNotLoaded) {
  ASSERT_TRUE(store_
                  ->Write({NewJob("a", 1), OpenGeneration{"a", 1, 0}, AppendLedger{"a", 1, 0, 10, true},
                           AppendLedger{"a", 1, 10, 20, true}})
                  .ok());
  EXPECT_EQ(store_->LoadJob("a")->snapshots, (std::map<int64_t, int64_t>{{10, 1}, {20, 1}}));
  ASSERT_TRUE(store_->Write({DropSnapshots{"a", 10}}).ok());
  EXPECT_EQ(store_->LoadJob("a")->snapshots, (std::map<int64_t, int64_t>{{10, 1}}));
  EXPECT_EQ(store_->LoadJob("a")->committed, 20) << "the steps are done all the same";
  ASSERT_TRUE(store_->Write({DropSnapshots{"a", -1}}).ok());
  EXPECT_TRUE(store_->LoadJob("a")->snapshots.empty());
}

TEST_F(StoreTest, ABatchIsStoredWholeOrNotAtAll) {
  ASSERT_TRUE(store_->Write({NewJob("a", 1)}).ok());
  // As many as one transaction of the coordinator holds; the last number leaves a gap.
  Batch batch;
  for (int64_t i = 1; i < 512; ++i) batch.push_back(AppendEvent{"a", i, "event"});
  batch.push_back(AppendEvent{"a", 513, "event"});
  EXPECT_FALSE(store_->Write(batch).ok());
  EXPECT_TRUE(store_->Events("a", 0, 10)->empty());
  batch.back() = AppendEvent{"a", 512, "event"};
  EXPECT_TRUE(store_->Write(batch).ok());
  EXPECT_EQ(store_->Events("a", 0, 1000)->size(), 512u);
}

TEST_F(StoreTest, ANewGenerationVoidsWhatIsPastItsFirstStep) {
  ASSERT_TRUE(
      store_
          ->Write({NewJob("a", 1), OpenGeneration{"a", 1, 0}, AppendLedger{"a", 1, 0, 10}, AppendLedger{"a", 1, 10, 20},
                   InsertCheckpoint{"a", 1, 10, "/c/10", false}, InsertCheckpoint{"a", 1, 20, "/c/20", false}})
          .ok());
  ASSERT_TRUE(store_->Write({OpenGeneration{"a", 2, 10}, AppendLedger{"a", 2, 10, 30}}).ok());
  EXPECT_THAT(Rows(*store_, "a"),
              ElementsAre(std::tuple(0, 10, 1, false), std::tuple(10, 20, 1, true), std::tuple(10, 30, 2, false)));
  ASSERT_EQ(store_->Checkpoints("a")->size(), 1u);
  EXPECT_EQ(store_->Checkpoints("a")->at(0).step, 10);
  EXPECT_EQ(store_->GetJob("a")->generation, 2);
}

TEST_F(StoreTest, ANewGenerationCutsARowThatStraddlesItsFirstStep) {
  ASSERT_TRUE(store_
                  ->Write({NewJob("a", 1), NewJob("b", 2), OpenGeneration{"a", 1, 0}, OpenGeneration{"b", 1, 0},
                           AppendLedger{"a", 1, 0, 10, true}, AppendLedger{"a", 1, 10, 20, true},
                           AppendLedger{"a", 1, 20, 30, true}, AppendLedger{"b", 1, 0, 30, true}})
                  .ok());
  ASSERT_TRUE(store_->Write({OpenGeneration{"a", 2, 14}}).ok());
  EXPECT_THAT(Rows(*store_, "a"), ElementsAre(std::tuple(0, 10, 1, false), std::tuple(10, 14, 1, false),
                                              std::tuple(14, 20, 1, true), std::tuple(20, 30, 1, true)));
  // The cut row's snapshot was of a step that is void now.
  const core::Job job = *store_->LoadJob("a");
  EXPECT_EQ(job.committed, 14);
  EXPECT_THAT(job.snapshots, ElementsAre(Pair(10, 1)));
  EXPECT_THAT(Rows(*store_, "b"), ElementsAre(std::tuple(0, 30, 1, false)));
  // Cut again below the first cut, and at a row's beginning.
  ASSERT_TRUE(store_->Write({AppendLedger{"a", 2, 14, 25}, OpenGeneration{"a", 3, 12}}).ok());
  ASSERT_TRUE(store_->Write({AppendLedger{"a", 3, 12, 25}, OpenGeneration{"a", 4, 12}}).ok());
  EXPECT_EQ(store_->LoadJob("a")->committed, 12);
  ASSERT_TRUE(store_->Write({OpenGeneration{"a", 5, 0}}).ok());
  EXPECT_EQ(store_->LoadJob("a")->committed, 0);
}

TEST_F(StoreTest, KeepsRanksOfTheNewestGeneration) {
  core::Rank rank;
  rank.session = 3;
  rank.last_report = 17;
  rank.farewell = core::Farewell::kStopped;
  rank.host = "h";
  rank.pid = 1234;
  UpdateJob update{"a", core::JobState::kRunning, 2, false, "", "s", UpdateJob::Live{2, 2, 1, 40, 5, 30}};
  ASSERT_TRUE(store_
                  ->Write({NewJob("a", 1), OpenGeneration{"a", 1, 0}, PutRank{"a", 1, 0, rank},
                           PutRank{"a", 1, 1, rank}, OpenGeneration{"a", 2, 0}, update, AppendLedger{"a", 2, 0, 40}})
                  .ok());
  rank.last_report = 18;
  ASSERT_TRUE(store_->Write({PutRank{"a", 2, 1, rank}}).ok());
  Open();
  const core::Job job = *store_->LoadJob("a");
  ASSERT_EQ(job.group_size(), 2);
  EXPECT_FALSE(job.ranks[0].seen);
  const core::Rank& kept = job.ranks[1];
  EXPECT_TRUE(kept.seen);
  EXPECT_FALSE(kept.connected);
  EXPECT_EQ(std::tie(kept.session, kept.last_report, kept.farewell, kept.host, kept.pid),
            std::tie(rank.session, rank.last_report, rank.farewell, rank.host, rank.pid));
  EXPECT_EQ(kept.leased_end, 40);
  EXPECT_EQ(std::tie(job.epochs, job.high_water, job.restarts, job.stopped_at), std::tuple(1, 40, 5, 30));
}

TEST_F(StoreTest, KeepsOneDigestAStep) {
  ASSERT_TRUE(store_->Write({NewJob("a", 1), PutDigest{"a", 10, "x"}, PutDigest{"a", 20, "y"}}).ok());
  ASSERT_TRUE(store_->Write({PutDigest{"a", 20, "z"}, PutDigest{"a", 30, "w"}}).ok());
  const auto digests = *store_->Digests("a", 10, 1);
  ASSERT_EQ(digests.size(), 1u);
  EXPECT_EQ(digests[0].step, 20);
  EXPECT_EQ(digests[0].digest, "z");
  EXPECT_EQ(store_->Digests("a", 0, 10)->size(), 3u);
}

TEST_F(StoreTest, FindsTheNewestTwoSnapshotsAlsoPastRowsWithoutOne) {
  Batch batch{NewJob("a", 1), OpenGeneration{"a", 1, 0}, AppendLedger{"a", 1, 0, 1, true},
              AppendLedger{"a", 1, 1, 2, true}, AppendLedger{"a", 1, 2, 3, true}};
  for (int64_t step = 3; step < 40; ++step) batch.push_back(AppendLedger{"a", 1, step, step + 1, false});
  ASSERT_TRUE(store_->Write(batch).ok());
  EXPECT_THAT(store_->LoadJob("a")->snapshots, ElementsAre(Pair(2, 1), Pair(3, 1)));
  EXPECT_EQ(store_->LoadJob("a")->committed, 40);
}

TEST_F(StoreTest, ADroppedCheckpointIsNotUsedAgainButAFinalOneStays) {
  ASSERT_TRUE(
      store_
          ->Write({NewJob("a", 1), InsertCheckpoint{"a", 1, 10, "/c/10", false},
                   InsertCheckpoint{"a", 1, 20, "/c/20", false}, InsertCheckpoint{"a", 1, 20, "/c/final", true}})
          .ok());
  ASSERT_TRUE(store_->Write({DropCheckpoint{"a", 20}}).ok());
  EXPECT_THAT(store_->LoadJob("a")->checkpoints, ElementsAre(Pair(10, "/c/10")));
  EXPECT_EQ(store_->Checkpoints("a")->back().path, "/c/final");
}

TEST_F(StoreTest, AJobThatBeginsAtAStepHasItCommitted) {
  InsertJob job = NewJob("a", 1);
  job.row.shape.first_step = 50;
  ASSERT_TRUE(store_->Write({job, InsertCheckpoint{"a", 0, 50, "/other/50", false}}).ok());
  EXPECT_EQ(store_->LoadJob("a")->committed, 50);
  EXPECT_EQ(store_->LoadJob("a")->high_water, 50);
  EXPECT_EQ(store_->LoadJob("a")->Resume().path, "/other/50");
}

TEST_F(StoreTest, LiveJobsAreThoseThatHaveNotEndedEachAsLoadedAlone) {
  core::Rank rank;
  rank.pid = 7;
  const auto state = [](const std::string& id, core::JobState to) {
    return UpdateJob{id, to, 1, true, "why", "s", UpdateJob::Live{3, 2, 1, 20, 4}};
  };
  ASSERT_TRUE(store_
                  ->Write({NewJob("q", 3), NewJob("r", 2), NewJob("e", 1), OpenGeneration{"r", 1, 0},
                           OpenGeneration{"e", 1, 0}, state("r", core::JobState::kRunning),
                           state("e", core::JobState::kFailed), AppendLedger{"r", 1, 0, 20, true},
                           InsertCheckpoint{"r", 1, 10, "/c", false}, PutRank{"r", 1, 1, rank}})
                  .ok());
  const auto live = *store_->LiveJobs();
  ASSERT_EQ(live.size(), 2u);
  EXPECT_EQ(live[0].id, "r");
  EXPECT_EQ(live[1].id, "q");
  const core::Job one = *store_->LoadJob("r");
  EXPECT_EQ(one.ranks.at(1).pid, 7);
  const core::Job& same = live[0];
  EXPECT_EQ(std::tie(same.order, same.state, same.generation, same.committed, same.checkpoints, same.snapshots,
                     same.epochs, same.high_water, same.restarts, same.cancel_requested, same.cancel_reason),
            std::tie(one.order, one.state, one.generation, one.committed, one.checkpoints, one.snapshots, one.epochs,
                     one.high_water, one.restarts, one.cancel_requested, one.cancel_reason));
  EXPECT_EQ(std::tuple(same.committed, same.restarts, same.cancel_reason), std::tuple(20, 4, std::string("why")));
  EXPECT_EQ(same.ranks.at(1).pid, 7);
  EXPECT_EQ(store_->LoadJob("e")->state, core::JobState::kFailed);
}

TEST_F(StoreTest, OpensWhatTheFirstVersionWrote) {
  store_.reset();
  std::filesystem::remove_all(folder_);
  std::filesystem::create_directories(folder_);
  std::ifstream sql(std::string(std::getenv("LOCKSTEP_SOURCE_DIR")) + "/tests/golden/store_version_1.sql");
  ASSERT_TRUE(sql) << "the first version's tables";
  Execute(std::string(std::istreambuf_iterator<char>(sql), {}) +
          "INSERT INTO jobs VALUES ('a', 1, 3, 2, 0, '', 2, 1, 2, 100, 1, x'73', x'74');"
          "INSERT INTO events VALUES ('a', 1, x'65');"
          "INSERT INTO ledger VALUES ('a', 1, 0, 10, 0), ('a', 1, 10, 20, 1), ('a', 2, 10, 15, 0);"
          "INSERT INTO checkpoints VALUES ('a', 1, 10, '/c/10', 0, 0);");
  Open();
  const core::Job job = *store_->LoadJob("a");
  EXPECT_EQ(job.committed, 15);
  EXPECT_EQ(job.shape.workers, 2);
  EXPECT_EQ(job.shape.first_step, 0);
  EXPECT_TRUE(job.snapshots.empty());
  EXPECT_THAT(job.checkpoints, ElementsAre(Pair(10, "/c/10")));
  EXPECT_EQ(store_->GetJob("a")->spec, "s");
  ASSERT_TRUE(store_->Write({NewJob("b", 2), OpenGeneration{"a", 3, 10}, AppendEvent{"a", 2, "more"}}).ok());
  EXPECT_EQ(store_->LoadJob("a")->committed, 10);
  Open();  // A second time there is nothing to migrate.
  EXPECT_EQ(store_->Events("a", 0, 10)->size(), 2u);
}

TEST_F(StoreTest, RefusesWhatALaterVersionWrote) {
  store_.reset();
  Execute("PRAGMA user_version=1000");
  const auto store = Store::Open(folder_);
  EXPECT_EQ(store.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(store.status().message()), HasSubstr("newer lockstepd (version 1000"));
}

TEST_F(StoreTest, ASecondCoordinatorIsRefused) {
  const auto second = Store::Open(folder_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(std::to_string(getpid())));
}

TEST_F(StoreTest, ListsNewestFirstInPages) {
  for (int i = 1; i <= 5; ++i) ASSERT_TRUE(store_->Write({NewJob("j" + std::to_string(i), i)}).ok());
  const auto page = *store_->ListJobs({}, INT64_MAX, 2);
  ASSERT_EQ(page.size(), 2u);
  EXPECT_EQ(page[0].job_id, "j5");
  EXPECT_EQ(store_->ListJobs({}, page.back().order, 10)->at(0).job_id, "j3");
  EXPECT_TRUE(store_->ListJobs({core::JobState::kFailed}, INT64_MAX, 10)->empty());
}

}  // namespace
}  // namespace lockstep::store
