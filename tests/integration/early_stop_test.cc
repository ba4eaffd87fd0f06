// SPDX-License-Identifier: Apache-2.0
// A job whose workers stop early, as people see it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/integration/rpc_fixture.h"

namespace lockstep::rpc {
namespace {

class EarlyStopTest : public RpcTest {
 protected:
  // A job of three epochs that stops after the first; one worker, which has not said goodbye yet.
  std::unique_ptr<Worker> StopsEarly(std::string* id) {
    v1::JobSpec spec = Spec(1);
    spec.mutable_training()->set_epochs(3);
    spec.mutable_training()->mutable_early_stopping()->set_patience(2);
    v1::Job job;
    EXPECT_TRUE(TrySubmit(spec, "", &job).ok());
    *id = job.job_id();
    EXPECT_EQ(job.progress().total_steps(), 3 * kSteps);
    EXPECT_TRUE(launcher_->AwaitLaunch(*id, 1).has_value());
    auto rank0 = Connect(*id, 1, 0, 1);
    EXPECT_EQ(rank0->Lease(1000).end_step(), 3 * kSteps);
    rank0->Commit(0, 10);
    rank0->Checkpoint(10, MakeCheckpoint(*id + "-10"));
    rank0->Commit(10, kSteps);
    v1::SessionRequest request;
    v1::EpochCompleted& epoch = *request.mutable_epoch_completed();
    epoch.set_epoch(1);
    epoch.set_total_epochs(3);
    epoch.set_step(kSteps);
    epoch.set_test_loss(0.5);
    epoch.set_stopped_early(true);
    rank0->Report(std::move(request));
    rank0->AwaitAck();
    return rank0;
  }
  void ExpectDone(const std::string& id) {
    const std::string last_reason = Watch(id).back().state_changed().reason();
    const v1::Job job = Get(id);
    EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED);
    EXPECT_EQ(job.reason(), "stopped early after epoch 1: test_loss did not get better for 2 epochs");
    EXPECT_EQ(job.progress().step(), kSteps);
    EXPECT_EQ(job.progress().total_steps(), kSteps);
    EXPECT_EQ(job.progress().epoch(), 1);
    EXPECT_EQ(job.progress().total_epochs(), 1);
    EXPECT_EQ(last_reason, job.reason());
    v1::ListLedgerRequest request;
    request.set_job_id(id);
    v1::ListLedgerResponse ledger;
    EXPECT_TRUE(Call(&v1::TrainingService::Stub::ListLedger, request, &ledger).ok());
    EXPECT_EQ(ledger.total_steps(), kSteps);
  }
};

TEST_F(EarlyStopTest, TheJobSucceedsAndSaysWhy) {
  std::string id;
  auto rank0 = StopsEarly(&id);
  EXPECT_TRUE(rank0->Goodbye(v1::Goodbye::OUTCOME_SUCCEEDED, kSteps).ok());
  launcher_->Exit(id, 1, {.exit_code = 0});
  ExpectDone(id);
}

TEST_F(EarlyStopTest, AlsoWhereTheCoordinatorIsStartedAgainInBetween) {
  std::string id;
  auto rank0 = StopsEarly(&id);
  StopServer();
  StartServer();
  auto again = Reconnect(id, *rank0, 0, 1, 2, 3 * kSteps);
  EXPECT_TRUE(again->Goodbye(v1::Goodbye::OUTCOME_SUCCEEDED, kSteps).ok());
  launcher_->Exit(id, 1, {.exit_code = 0});
  ExpectDone(id);
}

TEST_F(EarlyStopTest, ResumedFromBeforeThereIsAllOfItToDo) {
  std::string id;
  auto rank0 = StopsEarly(&id);
  EXPECT_TRUE(rank0->Goodbye(v1::Goodbye::OUTCOME_SUCCEEDED, kSteps).ok());
  launcher_->Exit(id, 1, {.exit_code = 0});
  Watch(id);
  v1::ResumeJobRequest request;
  request.set_job_id(id);
  request.set_from_step(10);
  v1::ResumeJobResponse response;
  const grpc::Status status = Call(&v1::TrainingService::Stub::ResumeJob, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(Get(id).progress().total_steps(), 3 * kSteps);
  EXPECT_EQ(Get(id).progress().total_epochs(), 3);
}

TEST_F(EarlyStopTest, AReplayIsOfTheStepsThatWereDone) {
  std::string id;
  auto rank0 = StopsEarly(&id);
  EXPECT_TRUE(rank0->Goodbye(v1::Goodbye::OUTCOME_SUCCEEDED, kSteps).ok());
  launcher_->Exit(id, 1, {.exit_code = 0});
  Watch(id);
  v1::JobSpec spec = Get(id).spec();
  spec.set_name("again");
  spec.mutable_replay()->set_job_id(id);
  spec.mutable_replay()->set_from_step(10);
  v1::Job job;
  const grpc::Status status = TrySubmit(spec, "", &job);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(job.progress().total_steps(), kSteps);
}

}  // namespace
}  // namespace lockstep::rpc
