// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "lockstep/rpc/status.pb.h"
#include "tests/integration/rpc_fixture.h"

namespace lockstep::rpc {
namespace {

using testing::HasSubstr;

TEST_F(RpcTest, TrainsAJobFromSubmitToSuccess) {
  const std::string id = Submit();
  ASSERT_TRUE(launcher_->AwaitLaunch(id, 1).has_value());
  EXPECT_EQ(Get(id).state(), v1::JOB_STATE_STARTING);
  auto rank0 = Connect(id, 1, 0, 2);
  auto rank1 = Connect(id, 1, 1, 2);
  EXPECT_EQ(rank0->welcome.total_steps(), kSteps);
  EXPECT_EQ(rank0->welcome.logical_shards(), 4);
  EXPECT_EQ(Get(id).state(), v1::JOB_STATE_RUNNING);
  const v1::Lease lease = rank1->Lease(1000);
  EXPECT_EQ(lease.first_step(), 0);
  EXPECT_EQ(lease.end_step(), kSteps);
  EXPECT_EQ(lease.first_shard(), 2);
  EXPECT_EQ(lease.end_shard(), 4);
  rank0->Lease(kSteps);
  rank0->Commit(0, 10);
  rank0->stream->Write(rank0->sent.back());  // A repeat changes nothing.
  rank0->Commit(10, kSteps);
  EXPECT_TRUE(rank0->Goodbye(v1::Goodbye::OUTCOME_SUCCEEDED, kSteps).ok());
  EXPECT_TRUE(rank1->Goodbye(v1::Goodbye::OUTCOME_SUCCEEDED, kSteps).ok());
  launcher_->Exit(id, 1, {.exit_code = 0});

  const std::vector<v1::JobEvent> events = Watch(id);
  std::set<std::pair<int64_t, int64_t>> ranges;
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].sequence(), static_cast<int64_t>(i) + 1);
    if (!events[i].has_steps_committed()) continue;
    ranges.emplace(events[i].steps_committed().first_step(), events[i].steps_committed().end_step());
  }
  EXPECT_THAT(ranges, testing::ElementsAre(std::pair(0, 10), std::pair(10, kSteps)));
  EXPECT_EQ(events.back().state_changed().state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(Watch(id, 3).front().sequence(), 4);
  EXPECT_EQ(Get(id).progress().step(), kSteps);
  std::ifstream metrics(Get(id).output_dir() + "/metrics.jsonl");
  std::string line;
  int lines = 0;
  while (std::getline(metrics, line)) ++lines;
  EXPECT_EQ(lines, 2);
}

TEST_F(RpcTest, TellsAllThatIsWrongAtOnce) {
  v1::JobSpec spec;
  spec.set_name("Bad Name");
  const grpc::Status status = TrySubmit(spec, "", nullptr);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  lockstep::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  ASSERT_EQ(details.details_size(), 2);
  EXPECT_EQ(details.details(0).type_url(), "type.googleapis.com/google.rpc.ErrorInfo");
  EXPECT_EQ(details.details(1).type_url(), "type.googleapis.com/google.rpc.BadRequest");
  BadRequest bad;
  ASSERT_TRUE(bad.ParseFromString(details.details(1).value()));
  ASSERT_EQ(bad.field_violations_size(), 3);
  EXPECT_EQ(bad.field_violations(0).field(), "spec.training.batch_size");
  EXPECT_THAT(TrySubmit(Spec(9), "", nullptr).error_message(), HasSubstr("--slots=9"));
}

TEST_F(RpcTest, AnswersARepeatedRequestWithTheSameJob) {
  v1::Job first, again;
  ASSERT_TRUE(TrySubmit(Spec(), "r1", &first).ok());
  ASSERT_TRUE(TrySubmit(Spec(), "r1", &again).ok());
  EXPECT_EQ(first.job_id(), again.job_id());
  EXPECT_EQ(TrySubmit(Spec(1), "r1", nullptr).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

// A process that was there and is gone.
pid_t GonePid() {
  const pid_t pid = fork();
  if (pid == 0) _exit(0);
  waitpid(pid, nullptr, 0);
  return pid;
}

TEST_F(RpcTest, StartsAnotherGroupWhereAWorkerDies) {
  const std::string id = Submit();
  launcher_->AwaitLaunch(id, 1);
  char host[256] = {};
  gethostname(host, sizeof(host) - 1);
  const pid_t pid = GonePid();
  auto rank0 = Connect(id, 1, 0, 2);
  auto rank1 = Connect(id, 1, 1, 2, {.host = host, .pid = pid});
  rank1->context.TryCancel();
  rank1->Finish();
  ASSERT_TRUE(launcher_->AwaitLaunch(id, 1).has_value());
  // The group is killed at once, and its other session ends with it.
  while (!launcher_->Killed(id, 1)) std::this_thread::yield();
  rank0->context.TryCancel();
  rank0->Finish();
  ASSERT_TRUE(launcher_->AwaitLaunch(id, 2).has_value());
  const v1::Job job = Get(id);
  EXPECT_EQ(job.state(), v1::JOB_STATE_STARTING);
  EXPECT_EQ(job.restarts(), 1);
  EXPECT_EQ(job.generation(), 2);
  EXPECT_EQ(job.reason(), absl::StrCat("rank 1 (pid ", pid, " on host ", host,
                                       ") died: its session ended without goodbye; starting 2 workers"));
}

TEST_F(RpcTest, RefusesAStaleGeneration) {
  const std::string id = Submit(1);
  launcher_->AwaitLaunch(id, 1);
  bool welcomed = true;
  auto stale = Connect(id, 0, 0, 1, &welcomed);
  EXPECT_FALSE(welcomed);
  const grpc::Status status = stale->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("generation 0"));
  auto worker = Connect(id, 1, 0, 1);
  worker->Lease(kSteps);
  worker->generation = 0;
  worker->Commit(0, 10);
  EXPECT_EQ(worker->Finish().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_TRUE(store_->Ledger(id)->empty());
}

TEST_F(RpcTest, HandsTheGroupsIdToTheRanksOfItsGeneration) {
  const std::string id = Submit(2);
  launcher_->AwaitLaunch(id, 1);
  auto first = Connect(id, 1, 0, 2);
  auto second = Connect(id, 1, 1, 2);
  v1::SessionRequest ask, give;
  ask.mutable_group_id_request()->set_generation(1);
  give.mutable_group_id()->set_generation(1);
  give.mutable_group_id()->set_id(std::string("any\0bytes", 9));
  second->stream->Write(ask);
  first->stream->Write(give);
  v1::SessionResponse response;
  ASSERT_TRUE(second->Read(&response));
  EXPECT_EQ(response.group_id().generation(), 1);
  EXPECT_EQ(response.group_id().id(), give.group_id().id());
  give.mutable_group_id()->set_generation(0);
  first->stream->Write(give);
  EXPECT_EQ(first->Finish().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(RpcTest, CancelsQueuedAndRunningJobs) {
  const std::string running = Submit(4);
  const std::string queued = Submit(4);
  launcher_->AwaitLaunch(running, 1);
  std::vector<std::unique_ptr<Worker>> workers;
  for (int rank = 0; rank < 4; ++rank) workers.push_back(Connect(running, 1, rank, 4));
  const auto cancel = [&](const std::string& id) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::CancelJobRequest request;
    request.set_job_id(id);
    request.set_reason("enough");
    v1::CancelJobResponse response;
    return training_->CancelJob(&context, request, &response);
  };
  EXPECT_TRUE(cancel(queued).ok());
  EXPECT_EQ(Get(queued).state(), v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(cancel(queued).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(cancel("nobody-000000").error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_TRUE(cancel(running).ok());
  EXPECT_TRUE(Get(running).cancel_requested());
  for (auto& worker : workers) {
    v1::SessionResponse response;
    ASSERT_TRUE(worker->Read(&response));
    EXPECT_TRUE(response.has_stop());
    EXPECT_TRUE(worker->Goodbye(v1::Goodbye::OUTCOME_STOPPED, 0).ok());
  }
  launcher_->Exit(running, 1, {.exit_code = 0});
  EXPECT_EQ(Watch(running).back().state_changed().state(), v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(Get(running).reason(), "cancelled: enough");
}

TEST_F(RpcTest, GoesOnAfterARestartWhereTheGroupIsGoneAndListsAll) {
  const std::string id = Submit(1);
  launcher_->AwaitLaunch(id, 1);
  auto worker = Connect(id, 1, 0, 1);
  worker->Lease(kSteps);
  worker->Commit(0, 10);
  const std::string checkpoint = MakeCheckpoint("checkpoint");
  worker->Checkpoint(10, checkpoint);
  worker->Commit(10, 15);
  worker->AwaitAck();
  const int64_t events_before = store_->GetJob(id)->last_sequence;
  const std::string waiting = Submit(4);
  StopServer();
  worker->Finish();
  groups_live_on_ = false;
  StartServer();

  ASSERT_TRUE(launcher_->AwaitLaunch(id, 2).has_value());
  EXPECT_EQ(Get(id).generation(), 2);
  auto zombie_welcomed = true;
  auto zombie = Connect(id, 1, 0, 1, HelloOptions{.session = 2}, &zombie_welcomed);
  EXPECT_FALSE(zombie_welcomed);
  zombie->Finish();
  auto again = Connect(id, 2, 0, 1);
  EXPECT_EQ(again->welcome.first_step(), 10);
  EXPECT_EQ(again->welcome.resume_checkpoint(), checkpoint);
  again->Lease(kSteps);
  again->Commit(10, kSteps);
  EXPECT_TRUE(again->Goodbye(v1::Goodbye::OUTCOME_SUCCEEDED, kSteps).ok());
  launcher_->Exit(id, 2, {.exit_code = 0});
  const auto events = Watch(id, events_before);
  EXPECT_EQ(events.front().sequence(), events_before + 1);
  EXPECT_EQ(Get(id).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(LedgerEnd(id), kSteps);

  grpc::ClientContext context;
  SetDeadline(context);
  v1::ListJobsRequest request;
  request.set_page_size(1);
  v1::ListJobsResponse page;
  ASSERT_TRUE(training_->ListJobs(&context, request, &page).ok());
  ASSERT_EQ(page.jobs_size(), 1);
  EXPECT_EQ(page.jobs(0).job_id(), waiting);
  request.set_page_token(page.next_page_token());
  grpc::ClientContext second;
  SetDeadline(second);
  ASSERT_TRUE(training_->ListJobs(&second, request, &page).ok());
  EXPECT_EQ(page.jobs(0).job_id(), id);
  EXPECT_EQ(page.next_page_token(), "");
  request.add_states(v1::JOB_STATE_QUEUED);
  grpc::ClientContext changed;
  SetDeadline(changed);
  EXPECT_EQ(training_->ListJobs(&changed, request, &page).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(RpcTest, DrainsToTheQueueWithACheckpoint) {
  const std::string id = Submit(1);
  launcher_->AwaitLaunch(id, 1);
  auto worker = Connect(id, 1, 0, 1);
  worker->Lease(kSteps);
  std::promise<void> drained;
  coordinator_->Drain([&] { drained.set_value(); });
  v1::SessionResponse response;
  ASSERT_TRUE(worker->Read(&response));
  ASSERT_TRUE(response.has_stop());
  EXPECT_TRUE(response.stop().checkpoint());
  worker->Commit(0, 7);
  worker->Checkpoint(7, MakeCheckpoint("checkpoint"));
  EXPECT_TRUE(worker->Goodbye(v1::Goodbye::OUTCOME_STOPPED, 7).ok());
  launcher_->Exit(id, 1, {.exit_code = 0});
  ASSERT_EQ(drained.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_EQ(Get(id).state(), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(Get(id).reason(), "coordinator stopped at step 7; goes on from the checkpoint at its next start");
}

TEST_F(RpcTest, SendsHeartbeatsAndLogs) {
  const std::string id = Submit(1);
  const auto launch = launcher_->AwaitLaunch(id, 1);
  std::ofstream(launch->run_dir + "/output.log") << "hello from the worker\n";
  grpc::ClientContext context;
  SetDeadline(context);
  v1::WatchJobRequest request;
  request.set_job_id(id);
  auto reader = training_->WatchJob(&context, request);
  v1::WatchJobResponse response;
  do {
    ASSERT_TRUE(reader->Read(&response));
  } while (response.has_event());
  context.TryCancel();
  reader->Finish();
  grpc::ClientContext logs_context;
  SetDeadline(logs_context);
  v1::WatchLogsRequest logs;
  logs.set_job_id(id);
  auto log_reader = training_->WatchLogs(&logs_context, logs);
  v1::WatchLogsResponse chunk;
  ASSERT_TRUE(log_reader->Read(&chunk));
  EXPECT_EQ(chunk.chunk(), "hello from the worker\n");
  EXPECT_FALSE(log_reader->Read(&chunk));
  EXPECT_TRUE(log_reader->Finish().ok());
}

}  // namespace
}  // namespace lockstep::rpc
