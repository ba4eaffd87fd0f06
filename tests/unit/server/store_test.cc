// SPDX-License-Identifier: Apache-2.0
#include "server/store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

namespace lockstep::store {
namespace {

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("lockstep-store-" + std::to_string(getpid()));
    std::filesystem::remove_all(folder_);
    Open();
  }
  void TearDown() override {
    store_.reset();
    std::filesystem::remove_all(folder_);
  }
  void Open() {
    store_.reset();
    auto store = Store::Open(folder_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = std::move(*store);
  }
  static InsertJob NewJob(const std::string& id, int64_t order) {
    return {{.job_id = id, .order = order, .shape = {.workers = 2, .total_steps = 100}, .spec = "spec", .status = "s"}};
  }
  std::filesystem::path folder_;
  std::unique_ptr<Store> store_;
};

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

TEST_F(StoreTest, ABatchIsStoredWholeOrNotAtAll) {
  ASSERT_TRUE(store_->Write({NewJob("a", 1)}).ok());
  // The second event's number leaves a gap.
  EXPECT_FALSE(store_->Write({AppendEvent{"a", 1, "one"}, AppendEvent{"a", 3, "three"}}).ok());
  EXPECT_TRUE(store_->Events("a", 0, 10)->empty());
  EXPECT_TRUE(store_->Write({AppendEvent{"a", 1, "one"}}).ok());
}

TEST_F(StoreTest, ANewGenerationVoidsWhatIsPastItsFirstStep) {
  ASSERT_TRUE(store_
                  ->Write({NewJob("a", 1), OpenGeneration{"a", 1, 0}, AppendLedger{"a", 1, 0, 10},
                           AppendLedger{"a", 1, 10, 20}, InsertCheckpoint{"a", 1, 10, "/c/10", false}})
                  .ok());
  ASSERT_TRUE(store_->Write({OpenGeneration{"a", 2, 10}, AppendLedger{"a", 2, 10, 30}}).ok());
  int64_t end = 0;
  const auto ledger = store_->Ledger("a");
  ASSERT_TRUE(ledger.ok());
  for (const LedgerRow& row : *ledger) {
    if (row.voided) continue;
    EXPECT_EQ(row.first_step, end);
    end = row.end_step;
  }
  EXPECT_EQ(end, 30);
}

TEST_F(StoreTest, ASecondCoordinatorIsRefused) {
  const auto second = Store::Open(folder_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.status().message()), ::testing::HasSubstr(std::to_string(getpid())));
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
