// SPDX-License-Identifier: Apache-2.0
// The store on a disk that fails, killed in the middle of its work, and with very much in it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "tests/unit/server/store_fixture.h"

namespace lockstep::store {
namespace {

using StoreFaultsTest = StoreTest;

// One commit of the coordinator: an event and the ledger row that it tells of.
Batch Commit(int64_t number) {
  return {AppendEvent{"a", number, std::string(500, 'e')}, AppendLedger{"a", 1, number - 1, number, true},
          AppendEvent{"b", number, "other"}};
}

// What is stored of Commit(1), Commit(2), ...; -1 where one is there in part or out of order.
int64_t WholeCommits(const Store& store) {
  const auto events = store.Events("a", 0, INT64_MAX), others = store.Events("b", 0, INT64_MAX);
  const auto ledger = store.Ledger("a");
  if (!events.ok() || !others.ok() || !ledger.ok()) return -1;
  if (events->size() != ledger->size() || events->size() != others->size()) return -1;
  for (size_t i = 0; i < ledger->size(); ++i) {
    if (ledger->at(i).first_step != static_cast<int64_t>(i) || events->at(i).body != std::string(500, 'e')) return -1;
  }
  return static_cast<int64_t>(events->size());
}

// No file may grow past a size.
class SmallFiles {
 public:
  explicit SmallFiles(rlim_t bytes) : old_handler_(signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~SmallFiles() {
    setrlimit(RLIMIT_FSIZE, &old_);
    signal(SIGXFSZ, old_handler_);
  }

 private:
  sighandler_t old_handler_;
  rlimit old_;
};

TEST_F(StoreFaultsTest, AFullDiskFailsWritesUntilThereIsSpaceAgain) {
  ASSERT_TRUE(store_->Write({NewJob("a", 1), NewJob("b", 2), OpenGeneration{"a", 1, 0}}).ok());
  int64_t stored = 0;
  for (const bool large : {false, true}) {
    SCOPED_TRACE(large);
    {
      const SmallFiles limit(std::filesystem::file_size(folder_ + "/lockstep.db-wal") + (large ? 60'000 : 0));
      absl::Status status;
      // It may go on for a while in what the log's file has already.
      for (int i = 0; i < 1000 && status.ok(); ++i) {
        status = store_->Write(Commit(stored + 1));
        stored += status.ok();
      }
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
      EXPECT_EQ(WholeCommits(*store_), stored);
      EXPECT_EQ(store_->Write(Commit(stored + 1)).code(), absl::StatusCode::kResourceExhausted);
      EXPECT_TRUE(store_->GetJob("a").ok());
    }
    ASSERT_TRUE(store_->Write(Commit(++stored)).ok());
    EXPECT_EQ(WholeCommits(*store_), stored);
  }
  Open();
  EXPECT_EQ(WholeCommits(*store_), stored);
}

TEST_F(StoreFaultsTest, AFailureAtAnyStageStoresNothing) {
  ASSERT_TRUE(store_->Write({NewJob("a", 1), NewJob("b", 2), OpenGeneration{"a", 1, 0}}).ok());
  const std::string path = folder_ + "/points";
  std::ofstream(path) << "store.begin error\nstore.changes error\nstore.commit error\n";
  auto failpoints = Failpoints::Load(path, -1);
  ASSERT_TRUE(failpoints.ok()) << failpoints.status();
  Open(failpoints->get());
  for (const char* stage : {"store.begin", "store.changes", "store.commit"}) {
    const absl::Status status = store_->Write(Commit(1));
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(stage));
    EXPECT_EQ(WholeCommits(*store_), 0);
  }
  EXPECT_TRUE(store_->Write(Commit(1)).ok());
  EXPECT_EQ(WholeCommits(*store_), 1);
}

TEST_F(StoreFaultsTest, KilledAtAnyStageItHasABatchWholeOrNotAtAll) {
  ASSERT_TRUE(store_->Write({NewJob("a", 1), NewJob("b", 2), OpenGeneration{"a", 1, 0}}).ok());
  store_.reset();
  int64_t stored = 0;
  for (const auto& [stage, is_stored] : {std::pair("store.begin", false), std::pair("store.changes", false),
                                         std::pair("store.commit", false), std::pair("store.committed", true)}) {
    SCOPED_TRACE(stage);
    const std::string path = folder_ + "/points." + stage;
    std::ofstream(path) << stage << " kill\n";
    const pid_t pid = fork();
    if (pid == 0) {
      auto failpoints = Failpoints::Load(path, -1);
      auto store = Store::Open(folder_, failpoints->get());
      if (store.ok()) (*store)->Write(Commit(stored + 1)).IgnoreError();
      _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    Open();
    stored += is_stored;
    EXPECT_EQ(WholeCommits(*store_), stored);
    store_.reset();
  }
}

TEST_F(StoreFaultsTest, WhatACrashLeavesHoldsEveryAcknowledgedBatchWhole) {
  ASSERT_TRUE(store_->Write({NewJob("a", 1), NewJob("b", 2), OpenGeneration{"a", 1, 0}}).ok());
  store_.reset();
  auto* acknowledged = static_cast<std::atomic<int64_t>*>(
      mmap(nullptr, sizeof(std::atomic<int64_t>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(acknowledged, MAP_FAILED);
  const pid_t writer = fork();
  if (writer == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // Should the test end early.
    auto store = Store::Open(folder_);
    for (int64_t number = 1; store.ok() && (*store)->Write(Commit(number)).ok(); ++number) *acknowledged = number;
    _exit(1);
  }
  // A stopped writer's files are those that it would leave if it were killed there.
  std::mt19937 random(7);
  const std::string copy = folder_ + "/copy";
  int64_t before = 0;
  for (int round = 0; round < 60; ++round) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(random() % 20'000);
    while (*acknowledged == before || std::chrono::steady_clock::now() < until) std::this_thread::yield();
    int status = 0;
    kill(writer, SIGSTOP);
    ASSERT_EQ(waitpid(writer, &status, WUNTRACED), writer);
    ASSERT_TRUE(WIFSTOPPED(status)) << "the writer ended: " << status;
    const int64_t told = *acknowledged;
    std::filesystem::remove_all(copy);
    std::filesystem::create_directories(copy);
    for (const char* name : {"/lockstep.db", "/lockstep.db-wal"}) std::filesystem::copy(folder_ + name, copy + name);
    kill(writer, SIGCONT);
    auto store = Store::Open(copy);
    ASSERT_TRUE(store.ok()) << store.status();
    const int64_t whole = WholeCommits(**store);
    EXPECT_GE(whole, told);
    EXPECT_LE(whole, told + 1);
    before = told;
  }
  kill(writer, SIGKILL);
  waitpid(writer, nullptr, 0);
  munmap(acknowledged, sizeof(std::atomic<int64_t>));
  EXPECT_GT(before, 60);
}

// A limit in milliseconds, longer where a sanitizer slows all of the program.
int64_t Limit(int64_t milliseconds) {
  const char* const slowness = std::getenv("LOCKSTEP_TEST_SLOWNESS");
  return milliseconds * (slowness != nullptr ? std::atoi(slowness) : 1);
}

// The shortest of some tries: what else the machine does meanwhile is not the store's.
template <typename F>
std::chrono::milliseconds Fastest(const F& action) {
  auto fastest = std::chrono::steady_clock::duration::max();
  for (int i = 0; i < 5; ++i) {
    const auto began = std::chrono::steady_clock::now();
    action();
    fastest = std::min(fastest, std::chrono::steady_clock::now() - began);
  }
  return std::chrono::duration_cast<std::chrono::milliseconds>(fastest);
}

TEST_F(StoreFaultsTest, DaysOfCommitsDoNotSlowTheStart) {
  // Five a second for more than two days, each with a snapshot but the newest thousand.
  ASSERT_TRUE(store_->Write({NewJob("a", 1), OpenGeneration{"a", 1, 0}}).ok());
  Execute(
      "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999999) "
      "INSERT INTO ledger SELECT 'a', 1, i * 10, i * 10 + 10, 0, i < 999000 FROM n");
  const auto load = Fastest([&] {
    const auto jobs = store_->LiveJobs();
    ASSERT_TRUE(jobs.ok());
    EXPECT_EQ(jobs->at(0).committed, 10'000'000);
  });
  EXPECT_LT(load.count(), Limit(50));
  const auto open = Fastest([&] { Open(); });
  EXPECT_LT(open.count(), Limit(50));
  // Going back a little costs what is void, not what there is.
  int64_t generation = 1;
  const auto back = Fastest([&] {
    ++generation;
    EXPECT_TRUE(store_->Write({OpenGeneration{"a", generation, 9'999'995 - generation}}).ok());
  });
  EXPECT_LT(back.count(), Limit(50));
  EXPECT_EQ(store_->LoadJob("a")->committed, 9'999'995 - generation);
  const auto all = Fastest([&] { EXPECT_GE(store_->Ledger("a")->size(), 1'000'000u); });
  std::printf("LiveJobs %ld ms, Open %ld ms, OpenGeneration %ld ms, Ledger of a million rows %ld ms\n",
              static_cast<long>(load.count()), static_cast<long>(open.count()), static_cast<long>(back.count()),
              static_cast<long>(all.count()));
}

TEST_F(StoreFaultsTest, EndedJobsDoNotSlowTheStart) {
  Batch batch;
  for (int i = 1; i <= 10'000; ++i) {
    const std::string id = "j" + std::to_string(i);
    InsertJob job = NewJob(id, i);
    job.row.spec = std::string(2000, 's');
    batch.push_back(job);
    batch.push_back(OpenGeneration{id, 1, 0});
    batch.push_back(AppendLedger{id, 1, 0, 100});
    if (i % 1000 != 0) batch.push_back(UpdateJob{id, core::JobState::kSucceeded, 1, false, "", "s", {}});
  }
  ASSERT_TRUE(store_->Write(batch).ok());
  const auto load = Fastest([&] { EXPECT_EQ(store_->LiveJobs()->size(), 10u); });
  const auto open = Fastest([&] { Open(); });
  EXPECT_LT(load.count(), Limit(10));
  EXPECT_LT(open.count(), Limit(50));
  std::printf("LiveJobs %ld ms, Open %ld ms\n", static_cast<long>(load.count()), static_cast<long>(open.count()));
}

TEST_F(StoreFaultsTest, ManyWaitingJobsStartWithinASecond) {
  Batch batch;
  for (int i = 1; i <= 10'000; ++i) batch.push_back(NewJob("j" + std::to_string(i), i));
  ASSERT_TRUE(store_->Write(batch).ok());
  const auto load = Fastest([&] { EXPECT_EQ(store_->LiveJobs()->size(), 10'000u); });
  EXPECT_LT(load.count(), Limit(500));
  std::printf("LiveJobs of 10000 %ld ms\n", static_cast<long>(load.count()));
}

}  // namespace
}  // namespace lockstep::store
