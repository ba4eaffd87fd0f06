// SPDX-License-Identifier: Apache-2.0
// Broken streams, a coordinator that starts again, and a disk that is full.
#include <gmock/gmock.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "google/protobuf/util/json_util.h"
#include "tests/integration/rpc_fixture.h"

namespace lockstep::rpc {
namespace {

using testing::HasSubstr;

class RecoveryTest : public RpcTest {
 protected:
  void Await(const std::function<bool()>& condition) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!condition() && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
    EXPECT_TRUE(condition());
  }
};

TEST_F(RecoveryTest, ABrokenStreamIsTakenOverByTheNextOne) {
  const std::string id = Submit(1);
  launcher_->AwaitLaunch(id, 1);
  auto first = Connect(id, 1, 0, 1);
  const int64_t leased = first->Lease(kSteps).end_step();
  first->Commit(0, 5);
  first->AwaitAck();
  first->Commit(5, 10);
  first->Commit(10, 12);
  first->context.TryCancel();
  first->Finish();
  // Not known to have arrived: both are sent again, and one that is known besides.
  auto second = Reconnect(id, *first, 0, 1, 2, leased);
  second->stream->Write(first->sent[0]);
  second->AwaitAck();
  second->Commit(12, kSteps);
  second->AwaitAck();
  const auto ledger = store_->Ledger(id);
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const store::LedgerRow& row : *ledger) ranges.emplace_back(row.first_step, row.end_step);
  EXPECT_THAT(ranges, testing::ElementsAre(std::pair(0, 5), std::pair(5, 10), std::pair(10, 12), std::pair(12, 20)));
  EXPECT_TRUE(second->Goodbye(v1::Goodbye::OUTCOME_SUCCEEDED, kSteps).ok());
  launcher_->Exit(id, 1, {.exit_code = 0});
  EXPECT_EQ(Watch(id).back().state_changed().state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(Get(id).generation(), 1) << "a broken stream is not a dead worker";
}

TEST_F(RecoveryTest, AnOlderStreamChangesNothingAnyMore) {
  const std::string id = Submit(1);
  launcher_->AwaitLaunch(id, 1);
  auto first = Connect(id, 1, 0, 1);
  const int64_t leased = first->Lease(kSteps).end_step();
  auto second = Connect(id, 1, 0, 1, {.session = 2, .leased_end = leased});
  first->Commit(0, 5);
  const grpc::Status status = first->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("stream 1 of rank 0 is stale"));
  EXPECT_TRUE(store_->Ledger(id)->empty());
  second->Commit(0, 6);
  second->AwaitAck();
  EXPECT_EQ(LedgerEnd(id), 6);
  EXPECT_EQ(Get(id).state(), v1::JOB_STATE_RUNNING);
  bool welcomed = true;
  auto repeat = Connect(id, 1, 0, 1, HelloOptions{.session = 2}, &welcomed);
  EXPECT_FALSE(welcomed);
  EXPECT_EQ(repeat->Finish().error_code(), grpc::StatusCode::ALREADY_EXISTS);
}

TEST_F(RecoveryTest, ARestartedCoordinatorTakesARunningGroupOver) {
  const std::string id = Submit(2);
  launcher_->AwaitLaunch(id, 1);
  auto rank0 = Connect(id, 1, 0, 2);
  auto rank1 = Connect(id, 1, 1, 2);
  const int64_t leased = rank0->Lease(kSteps).end_step();
  rank1->Lease(kSteps);
  rank0->Commit(0, 5);
  rank0->AwaitAck();
  // A watcher, cut off after three events.
  grpc::ClientContext context;
  SetDeadline(context);
  v1::WatchJobRequest request;
  request.set_job_id(id);
  auto reader = training_->WatchJob(&context, request);
  std::vector<int64_t> seen;
  v1::WatchJobResponse response;
  while (seen.size() < 3 && reader->Read(&response)) {
    if (response.has_event()) seen.push_back(response.event().sequence());
  }
  StopServer();
  context.TryCancel();
  reader->Finish();
  rank0->Finish();
  rank1->Finish();
  const std::string metrics = dir_ + "/jobs/" + id + "/metrics.jsonl";
  std::ofstream(metrics, std::ios::app) << "{\"sequence\":\"9";  // Cut off in the middle of a line.
  StartServer();

  EXPECT_EQ(Get(id).state(), v1::JOB_STATE_RUNNING);
  // Training went on meanwhile.
  rank0->Commit(5, 15);
  auto again1 = Connect(id, 1, 1, 2, {.session = 2, .leased_end = leased});
  auto again0 = Reconnect(id, *rank0, 0, 2, 2, leased);
  EXPECT_EQ(again0->acked, 1) << "the coordinator knows what it had stored";
  EXPECT_EQ(again0->welcome.first_step(), 0) << "what the group began with";
  again0->Commit(15, kSteps);
  EXPECT_TRUE(again0->Goodbye(v1::Goodbye::OUTCOME_SUCCEEDED, kSteps).ok());
  EXPECT_TRUE(again1->Goodbye(v1::Goodbye::OUTCOME_SUCCEEDED, kSteps).ok());
  launcher_->Exit(id, 1, {.exit_code = 0});
  for (const v1::JobEvent& event : Watch(id, seen.back())) seen.push_back(event.sequence());
  for (size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i], static_cast<int64_t>(i) + 1);
  EXPECT_EQ(static_cast<int64_t>(seen.size()), store_->GetJob(id)->last_sequence);
  const v1::Job job = Get(id);
  EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(job.generation(), 1);
  EXPECT_EQ(job.restarts(), 0);
  EXPECT_EQ(LedgerEnd(id), kSteps);
  std::ifstream file(metrics);
  std::string line;
  std::vector<int64_t> ends;
  while (std::getline(file, line)) {
    v1::JobEvent event;
    ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(line, &event).ok()) << line;
    ends.push_back(event.steps_committed().end_step());
  }
  EXPECT_THAT(ends, testing::ElementsAre(5, 15, kSteps));
}

TEST_F(RecoveryTest, ARankThatDiedWhileTheCoordinatorWasAwayIsNotWaitedFor) {
  char host[256] = {};
  gethostname(host, sizeof(host) - 1);
  pid_t pid = 0;
  char program[] = "/bin/sleep", seconds[] = "1000";
  char* arguments[] = {program, seconds, nullptr};
  ASSERT_EQ(posix_spawn(&pid, program, nullptr, nullptr, arguments, environ), 0);
  const std::string id = Submit(2);
  launcher_->AwaitLaunch(id, 1);
  auto rank0 = Connect(id, 1, 0, 2);
  auto rank1 = Connect(id, 1, 1, 2, {.host = host, .pid = pid});
  EXPECT_EQ(Get(id).state(), v1::JOB_STATE_RUNNING);
  StopServer();
  rank0->Finish();
  rank1->Finish();
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  StartServer();
  // The limits of the watchdog are seconds away.
  EXPECT_TRUE(launcher_->Killed(id, 1));
  ASSERT_TRUE(launcher_->AwaitLaunch(id, 2).has_value());
  EXPECT_EQ(Get(id).restarts(), 1);
}

// While it lives, no file of this process can grow or be written to: SQLite's writes fail with EFBIG.
class FullDisk {
 public:
  FullDisk() {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit none = before_;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_FSIZE, &none);
  }
  ~FullDisk() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST_F(RecoveryTest, AFullDiskRefusesPeopleAndKeepsWorkersWaiting) {
  const std::string id = Submit(1);
  launcher_->AwaitLaunch(id, 1);
  auto worker = Connect(id, 1, 0, 1);
  worker->Lease(10);
  {
    const FullDisk full;
    worker->Commit(0, 5);
    Await([&] { return store_failures_ > 0; });
    v1::Job job;
    const grpc::Status refused = TrySubmit(Spec(1), "r1", &job);
    EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_EQ(job.job_id(), "");
    v1::ScaleJobRequest scale;
    scale.set_job_id(id);
    scale.set_workers(2);
    v1::ScaleJobResponse scaled;
    EXPECT_EQ(Call(&v1::TrainingService::Stub::ScaleJob, scale, &scaled).error_code(),
              grpc::StatusCode::RESOURCE_EXHAUSTED);
    worker->Commit(5, 10);
    EXPECT_EQ(worker->Lease(5).end_step(), 15) << "training goes on";
    EXPECT_EQ(worker->acked, 0);
    EXPECT_EQ(store_recoveries_, 0);
    EXPECT_TRUE(store_->Ledger(id)->empty());
    EXPECT_EQ(store_->ListJobs({}, INT64_MAX, 10)->size(), 1u);
  }
  worker->AwaitAck();
  EXPECT_EQ(LedgerEnd(id), 10);
  EXPECT_EQ(store_recoveries_, 1);
  EXPECT_EQ(Get(id).workers(), 1) << "what was refused did not happen";
  v1::Job job;
  EXPECT_TRUE(TrySubmit(Spec(1), "r1", &job).ok());
  EXPECT_NE(job.job_id(), "");
  EXPECT_EQ(store_->ListJobs({}, INT64_MAX, 10)->size(), 2u);
}

}  // namespace
}  // namespace lockstep::rpc
