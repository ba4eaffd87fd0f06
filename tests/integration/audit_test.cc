// SPDX-License-Identifier: Apache-2.0
// Scaling and resuming jobs, and what is recorded of them.
#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "lockstep/rpc/status.pb.h"
#include "tests/integration/rpc_fixture.h"

namespace lockstep::rpc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Stub = v1::TrainingService::Stub;

// The fields and what is wrong with them, "field: description".
std::vector<std::string> ViolationsOf(const grpc::Status& status) {
  std::vector<std::string> found;
  lockstep::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return found;
  for (const auto& detail : details.details()) {
    BadRequest bad;
    if (detail.type_url() != "type.googleapis.com/google.rpc.BadRequest" || !bad.ParseFromString(detail.value())) {
      continue;
    }
    for (const auto& violation : bad.field_violations()) {
      found.push_back(absl::StrCat(violation.field(), ": ", violation.description()));
    }
  }
  return found;
}

std::string ReasonOf(const grpc::Status& status) {
  lockstep::rpc::Status details;
  ErrorInfo info;
  if (!details.ParseFromString(status.error_details()) || details.details_size() == 0) return "";
  info.ParseFromString(details.details(0).value());
  return info.reason();
}

class AuditTest : public RpcTest {
 protected:
  grpc::Status Scale(const std::string& id, int workers, v1::Job* job = nullptr) {
    v1::ScaleJobRequest request;
    request.set_job_id(id);
    request.set_workers(workers);
    v1::ScaleJobResponse response;
    grpc::Status status = Call(&Stub::ScaleJob, request, &response);
    if (job != nullptr) *job = response.job();
    return status;
  }
  grpc::Status Resume(const std::string& id, std::optional<int64_t> from, v1::Job* job = nullptr) {
    v1::ResumeJobRequest request;
    request.set_job_id(id);
    if (from.has_value()) request.set_from_step(*from);
    v1::ResumeJobResponse response;
    grpc::Status status = Call(&Stub::ResumeJob, request, &response);
    if (job != nullptr) *job = response.job();
    return status;
  }
  v1::ListLedgerResponse Ledger(const std::string& id) {
    v1::ListLedgerRequest request;
    request.set_job_id(id);
    v1::ListLedgerResponse response;
    const grpc::Status status = Call(&Stub::ListLedger, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  std::vector<v1::RecordedDigest> Digests(const std::string& id, int64_t after = 0) {
    v1::ListDigestsRequest request;
    request.set_job_id(id);
    request.set_after_step(after);
    v1::ListDigestsResponse response;
    const grpc::Status status = Call(&Stub::ListDigests, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return {response.digests().begin(), response.digests().end()};
  }
  bool WarnsOfOtherBits(const v1::JobSpec& spec);
  // Trains a job of one worker to its end, with a checkpoint at step 10 and digests every 5 steps.
  std::string Trained(const v1::JobSpec& spec) {
    v1::Job job;
    EXPECT_TRUE(TrySubmit(spec, "", &job).ok());
    launcher_->AwaitLaunch(job.job_id(), 1);
    auto worker = Connect(job.job_id(), 1, 0, 1);
    worker->Lease(kSteps);
    for (int64_t step = 0; step < kSteps; step += 5) {
      worker->Commit(step, step + 5, absl::StrCat("d", step + 5));
      if (step == 5) worker->Checkpoint(10, MakeCheckpoint(job.job_id() + "-10"));
    }
    EXPECT_TRUE(worker->Goodbye(v1::Goodbye::OUTCOME_SUCCEEDED, kSteps).ok());
    launcher_->Exit(job.job_id(), 1, {.exit_code = 0});
    EXPECT_EQ(Watch(job.job_id()).back().state_changed().state(), v1::JOB_STATE_SUCCEEDED);
    return job.job_id();
  }
};

TEST_F(AuditTest, ScalesARunningJobAtAStepBoundary) {
  const std::string id = Submit(2);
  launcher_->AwaitLaunch(id, 1);
  auto rank0 = Connect(id, 1, 0, 2);
  auto rank1 = Connect(id, 1, 1, 2);
  rank0->Lease(kSteps);
  rank1->Lease(kSteps);
  v1::Job job;
  ASSERT_TRUE(Scale(id, 4, &job).ok());
  EXPECT_EQ(job.workers(), 4);
  v1::SessionResponse response;
  ASSERT_TRUE(rank0->Read(&response));
  EXPECT_TRUE(response.has_stop());
  ASSERT_TRUE(rank1->Read(&response));
  EXPECT_TRUE(response.has_stop());
  rank0->Commit(0, 7);
  rank0->Checkpoint(7, MakeCheckpoint("seven"));
  EXPECT_TRUE(rank0->Goodbye(v1::Goodbye::OUTCOME_STOPPED, 7).ok());
  EXPECT_TRUE(rank1->Goodbye(v1::Goodbye::OUTCOME_STOPPED, 7).ok());
  launcher_->Exit(id, 1, {.exit_code = 0});
  const auto launch = launcher_->AwaitLaunch(id, 2);
  ASSERT_TRUE(launch.has_value());
  EXPECT_EQ(launch->shape.workers, 4);
  EXPECT_EQ(launch->shape.logical_shards, 4) << "the bits depend on this";
  auto again = Connect(id, 2, 3, 4);
  EXPECT_EQ(again->welcome.first_step(), 7);
  EXPECT_EQ(Get(id).restarts(), 0) << "a wish is not a failure";
}

TEST_F(AuditTest, RefusesAScaleThatCannotBe) {
  const std::string id = Submit(2);
  const grpc::Status too_many = Scale(id, 5);
  EXPECT_EQ(too_many.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(ViolationsOf(too_many), ElementsAre(HasSubstr("workers: a job of 4 logical shards has 1 to 4 workers")));
  EXPECT_EQ(Scale(id, 0).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const grpc::Status nobody = Scale("nobody-000000", 2);
  EXPECT_EQ(nobody.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(ReasonOf(nobody), "JOB_NOT_FOUND");
  const grpc::Status ended = Scale(Trained(Spec(1)), 2);
  EXPECT_EQ(ended.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(ReasonOf(ended), "JOB_ENDED");
}

// Whether an alarm comes where a job's last ten steps are done again with another digest.
bool AuditTest::WarnsOfOtherBits(const v1::JobSpec& spec) {
  const std::string id = Trained(spec);
  v1::Job job;
  EXPECT_TRUE(Resume(id, 10, &job).ok());
  launcher_->AwaitLaunch(id, 2);
  auto worker = Connect(id, job.generation(), 0, 1);
  worker->Lease(kSteps);
  worker->Commit(10, kSteps, "other");
  EXPECT_TRUE(worker->Goodbye(v1::Goodbye::OUTCOME_SUCCEEDED, kSteps).ok());
  launcher_->Exit(id, job.generation(), {.exit_code = 0});
  const auto events = Watch(id);
  return std::ranges::any_of(events, [](const v1::JobEvent& event) {
    return event.has_warning() && event.warning().kind() == v1::WARNING_KIND_DIVERGENCE;
  });
}

TEST_F(AuditTest, OtherBitsAreAnAlarmWhereTheSameArePromised) {
  v1::JobSpec spec = Spec(1);
  EXPECT_TRUE(WarnsOfOtherBits(spec));
  spec.mutable_training()->set_reduction(v1::REDUCTION_FASTEST);
  EXPECT_FALSE(WarnsOfOtherBits(spec));
}

TEST_F(AuditTest, ResumesAnEndedJobFromAStep) {
  const std::string id = Trained(Spec(1));
  EXPECT_EQ(Resume(id, std::nullopt).error_code(), grpc::StatusCode::FAILED_PRECONDITION) << "it has succeeded";
  const grpc::Status unknown = Resume(id, 11);
  EXPECT_EQ(unknown.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(
      ViolationsOf(unknown),
      ElementsAre(absl::StrCat("from_step: job ", id, " has no checkpoint at step 11; it can go on from 0, 10")));
  EXPECT_EQ(ReasonOf(Resume("nobody-000000", 0)), "JOB_NOT_FOUND");

  v1::Job job;
  ASSERT_TRUE(Resume(id, 10, &job).ok());
  EXPECT_FALSE(job.has_end_time());
  ASSERT_TRUE(launcher_->AwaitLaunch(id, 2).has_value());
  EXPECT_EQ(Resume(id, 10).error_code(), grpc::StatusCode::FAILED_PRECONDITION) << "it has not ended";
  auto worker = Connect(id, job.generation(), 0, 1);
  EXPECT_EQ(worker->welcome.first_step(), 10);
  EXPECT_THAT(worker->welcome.resume_checkpoint(), HasSubstr("-10"));
  worker->Lease(kSteps);
  worker->Commit(10, kSteps, "other");
  EXPECT_TRUE(worker->Goodbye(v1::Goodbye::OUTCOME_SUCCEEDED, kSteps).ok());
  launcher_->Exit(id, job.generation(), {.exit_code = 0});
  const auto events = Watch(id);
  EXPECT_EQ(events.back().state_changed().state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(LedgerEnd(id), kSteps);
}

TEST_F(AuditTest, AResumeFromAStepHoldsThroughARestart) {
  const std::string id = Trained(Spec(1));
  const std::string busy = Submit(4);
  ASSERT_TRUE(Resume(id, 0).ok());  // It must wait.
  StopServer();
  groups_live_on_ = false;
  StartServer();
  launcher_->AwaitLaunch(busy, 2);
  v1::CancelJobRequest cancel;
  cancel.set_job_id(busy);
  v1::CancelJobResponse cancelled;
  ASSERT_TRUE(Call(&Stub::CancelJob, cancel, &cancelled).ok());
  launcher_->Exit(busy, 2, {.exit_code = 0});
  const auto launch = launcher_->AwaitLaunch(id, 2);
  ASSERT_TRUE(launch.has_value());
  auto worker = Connect(id, launch->generation, 0, 1);
  EXPECT_EQ(worker->welcome.first_step(), 0);
  EXPECT_EQ(worker->welcome.resume_checkpoint(), "");
}

TEST_F(AuditTest, ListsCheckpointsThatAreThere) {
  const std::string id = Submit(1);
  launcher_->AwaitLaunch(id, 1);
  auto worker = Connect(id, 1, 0, 1);
  worker->Lease(kSteps);
  worker->Commit(0, 10);
  const std::string gone = MakeCheckpoint("five");
  worker->Checkpoint(5, gone);
  worker->Checkpoint(10, MakeCheckpoint("ten"));
  worker->AwaitAck();
  std::filesystem::remove_all(gone);
  v1::ListCheckpointsRequest request;
  request.set_job_id(id);
  v1::ListCheckpointsResponse response;
  ASSERT_TRUE(Call(&Stub::ListCheckpoints, request, &response).ok());
  ASSERT_EQ(response.checkpoints_size(), 1);
  EXPECT_EQ(response.checkpoints(0).step(), 10);
  EXPECT_EQ(response.checkpoints(0).generation(), 1);
  EXPECT_EQ(response.checkpoints(0).bytes(), 8);
  EXPECT_FALSE(response.checkpoints(0).final());
  request.set_job_id("nobody-000000");
  EXPECT_EQ(ReasonOf(Call(&Stub::ListCheckpoints, request, &response)), "JOB_NOT_FOUND");
}

TEST_F(AuditTest, ListsTheLedgerInOneEntryForEachRunOfSteps) {
  const std::string id = Trained(Spec(1));
  ASSERT_TRUE(Resume(id, 10).ok());
  const auto launch = launcher_->AwaitLaunch(id, 2);
  const v1::ListLedgerResponse ledger = Ledger(id);
  ASSERT_EQ(ledger.entries_size(), 2);
  EXPECT_EQ(ledger.entries(0).first_step(), 0);
  EXPECT_EQ(ledger.entries(0).end_step(), 10);
  EXPECT_FALSE(ledger.entries(0).voided());
  EXPECT_EQ(ledger.entries(1).first_step(), 10);
  EXPECT_EQ(ledger.entries(1).end_step(), kSteps);
  EXPECT_TRUE(ledger.entries(1).voided());
  EXPECT_EQ(ledger.total_steps(), kSteps);
  EXPECT_EQ(ledger.steps_per_epoch(), kSteps);
  EXPECT_EQ(ledger.train_samples(), kSteps * 8 - 3);
  EXPECT_EQ(ledger.batch_size(), 8);
  v1::ListLedgerRequest request;
  v1::ListLedgerResponse response;
  EXPECT_EQ(ReasonOf(Call(&Stub::ListLedger, request, &response)), "JOB_NOT_FOUND");
}

TEST_F(AuditTest, ListsDigestsAfterAStep) {
  const std::string id = Trained(Spec(1));
  const auto all = Digests(id);
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[0].step(), 5);
  EXPECT_EQ(all[0].digest(), "d5");
  EXPECT_EQ(Digests(id, 10).size(), 2u);
  v1::ListDigestsRequest request;
  request.set_job_id(id);
  request.set_after_step(-1);
  v1::ListDigestsResponse response;
  EXPECT_EQ(Call(&Stub::ListDigests, request, &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(AuditTest, ReplaysAPartOfAnotherJob) {
  const std::string id = Trained(Spec(1));
  v1::JobSpec spec = Spec(2);
  spec.set_name("again");
  spec.mutable_replay()->set_job_id(id);
  spec.mutable_replay()->set_from_step(10);
  spec.mutable_replay()->set_until_step(15);
  v1::Job job;
  const grpc::Status status = TrySubmit(spec, "", &job);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(job.progress().total_steps(), 15);
  ASSERT_TRUE(launcher_->AwaitLaunch(job.job_id(), 1).has_value());
  auto rank0 = Connect(job.job_id(), 1, 0, 2);
  auto rank1 = Connect(job.job_id(), 1, 1, 2);
  EXPECT_EQ(rank0->welcome.first_step(), 10);
  EXPECT_EQ(rank0->welcome.total_steps(), 15);
  EXPECT_EQ(rank0->welcome.logical_shards(), 4);
  EXPECT_THAT(rank0->welcome.resume_checkpoint(), HasSubstr(id + "-10"));
  EXPECT_EQ(rank0->Lease(1000).end_step(), 15);
  rank0->Commit(10, 15, "d15");
  EXPECT_TRUE(rank0->Goodbye(v1::Goodbye::OUTCOME_SUCCEEDED, 15).ok());
  EXPECT_TRUE(rank1->Goodbye(v1::Goodbye::OUTCOME_SUCCEEDED, 15).ok());
  launcher_->Exit(job.job_id(), 1, {.exit_code = 0});
  EXPECT_EQ(Watch(job.job_id()).back().state_changed().state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(LedgerEnd(job.job_id(), 10), 15);
  EXPECT_EQ(Ledger(job.job_id()).first_step(), 10);
}

TEST_F(AuditTest, RefusesAReplayThatWouldNotBeOne) {
  const std::string id = Trained(Spec(1));
  const auto refused = [&](std::function<void(v1::JobSpec&)> change) {
    v1::JobSpec spec = Spec(1);
    spec.mutable_replay()->set_job_id(id);
    spec.mutable_replay()->set_from_step(10);
    change(spec);
    const grpc::Status status = TrySubmit(spec, "", nullptr);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    return ViolationsOf(status);
  };
  EXPECT_THAT(refused([](v1::JobSpec& spec) { spec.mutable_replay()->clear_job_id(); }),
              ElementsAre(HasSubstr("spec.replay.job_id: is missing")));
  EXPECT_THAT(refused([](v1::JobSpec& spec) { spec.mutable_replay()->set_job_id("nobody-000000"); }),
              ElementsAre("spec.replay.job_id: there is no job nobody-000000"));
  EXPECT_THAT(refused([](v1::JobSpec& spec) { spec.mutable_replay()->set_from_step(5); }),
              ElementsAre(absl::StrCat("spec.replay.from_step: job ", id,
                                       " has no checkpoint at step 5; it can start from 0, 10")));
  EXPECT_THAT(refused([](v1::JobSpec& spec) { spec.mutable_replay()->set_until_step(10); }),
              ElementsAre(HasSubstr("spec.replay.until_step: is 10; must be greater than from_step (10)")));
  EXPECT_THAT(refused([](v1::JobSpec& spec) { spec.mutable_replay()->set_until_step(kSteps + 1); }),
              ElementsAre(HasSubstr("spec.replay.until_step: is 21")));
  EXPECT_THAT(refused([](v1::JobSpec& spec) {
                spec.set_seed(7);
                spec.mutable_training()->set_batch_size(4);
                spec.mutable_optimizer()->mutable_adam();
              }),
              ElementsAre(HasSubstr("spec.optimizer: differs"), HasSubstr("spec.training: differs"),
                          HasSubstr("spec.seed: differs")));
  v1::JobSpec spec = Spec(1);
  spec.mutable_replay()->set_job_id(id);
  spec.mutable_replay()->set_from_step(10);
  spec.mutable_training()->set_keep_checkpoints(9);
  spec.mutable_training()->set_checkpoint_interval_steps(3);
  EXPECT_TRUE(TrySubmit(spec, "", nullptr).ok()) << "how often a checkpoint is saved does not change the bits";
}

}  // namespace
}  // namespace lockstep::rpc
