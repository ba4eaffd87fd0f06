// SPDX-License-Identifier: Apache-2.0
// A coordinator with real gRPC and a real store, a fake launcher, and workers played by the test.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/clock.h"
#include "grpcpp/grpcpp.h"
#include "lockstep/v1/training_service.grpc.pb.h"
#include "lockstep/v1/worker_service.grpc.pb.h"
#include "server/launch/fake_launcher.h"
#include "server/rpc/server.h"

namespace lockstep::rpc {

namespace v1 = lockstep::v1;

inline constexpr int64_t kSteps = 20;

class RpcTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "lockstep-rpc-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    StartServer();
  }
  void TearDown() override {
    StopServer();
    std::filesystem::remove_all(dir_);
  }

  void StartServer() {
    auto store = store::Store::Open(dir_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = std::move(*store);
    timers_ = std::make_unique<TimerQueue>();
    launcher_ = std::make_unique<launch::FakeLauncher>();
    CoordinatorOptions options{.state_dir = dir_, .data_roots = {"/data"}, .slots = 4, .limits = limits_};
    coordinator_ =
        std::make_unique<Coordinator>(options, store_.get(), launcher_.get(), timers_.get(), &hub_, &clock_, nullptr);
    ServiceContext context{.coordinator = coordinator_.get(),
                           .store = store_.get(),
                           .hub = &hub_,
                           .timers = timers_.get(),
                           .slots = 4,
                           .heartbeat = std::chrono::milliseconds(50)};
    context.validate = [](const v1::JobSpec& spec, Violations& violations) {
      if (spec.training().batch_size() < 1) violations.Add("training.batch_size", "must be at least 1");
      if (spec.training().epochs() < 1) violations.Add("training.epochs", "must be at least 1");
      return JobPlan{.logical_shards = 4, .steps_per_epoch = kSteps, .total_steps = kSteps};
    };
    auto server = RpcServer::Start(context, {"127.0.0.1:0"});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    ASSERT_TRUE(coordinator_->Start().ok());
    channel_ = grpc::CreateChannel(server_->addresses()[0], grpc::InsecureChannelCredentials());
    training_ = v1::TrainingService::NewStub(channel_);
    workers_ = v1::WorkerService::NewStub(channel_);
  }

  void StopServer() {
    if (server_ == nullptr) return;
    server_->Shutdown(std::chrono::milliseconds(0));
    coordinator_->Stop();
    launcher_.reset();
    timers_->Stop();
    server_.reset();
    coordinator_.reset();
    timers_.reset();
    store_.reset();
  }

  static v1::JobSpec Spec(int workers = 2) {
    v1::JobSpec spec;
    spec.set_name("job");
    spec.mutable_training()->set_batch_size(8);
    spec.mutable_training()->set_epochs(1);
    spec.mutable_resources()->set_workers(workers);
    return spec;
  }

  static void SetDeadline(grpc::ClientContext& context) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  }

  grpc::Status TrySubmit(const v1::JobSpec& spec, const std::string& request_id, v1::Job* job) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::SubmitJobRequest request;
    *request.mutable_spec() = spec;
    request.set_request_id(request_id);
    v1::SubmitJobResponse response;
    grpc::Status status = training_->SubmitJob(&context, request, &response);
    if (job != nullptr) *job = response.job();
    return status;
  }
  std::string Submit(int workers = 2) {
    v1::Job job;
    const grpc::Status status = TrySubmit(Spec(workers), "", &job);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return job.job_id();
  }
  v1::Job Get(const std::string& job_id) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::GetJobRequest request;
    request.set_job_id(job_id);
    v1::GetJobResponse response;
    const grpc::Status status = training_->GetJob(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.job();
  }
  // Watches until the end; heartbeats are left out.
  std::vector<v1::JobEvent> Watch(const std::string& job_id, int64_t after = 0) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::WatchJobRequest request;
    request.set_job_id(job_id);
    request.set_after_sequence(after);
    auto reader = training_->WatchJob(&context, request);
    std::vector<v1::JobEvent> events;
    v1::WatchJobResponse response;
    while (reader->Read(&response)) {
      if (response.has_event()) events.push_back(response.event());
    }
    const grpc::Status status = reader->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return events;
  }

  // A worker that the test plays.
  struct Worker {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReaderWriter<v1::SessionRequest, v1::SessionResponse>> stream;
    v1::Welcome welcome;
    int64_t generation = 1;

    v1::Lease Lease(int64_t steps) {
      v1::SessionRequest request;
      request.mutable_lease_request()->set_generation(generation);
      request.mutable_lease_request()->set_steps(steps);
      stream->Write(request);
      v1::SessionResponse response;
      EXPECT_TRUE(stream->Read(&response) && response.has_lease()) << response.ShortDebugString();
      return response.lease();
    }
    void Commit(int64_t first, int64_t end) {
      v1::SessionRequest request;
      v1::StepsCommitted& steps = *request.mutable_commit_steps()->mutable_steps();
      steps.set_first_step(first);
      steps.set_end_step(end);
      steps.set_generation(generation);
      steps.set_loss(1.0 / static_cast<double>(end));
      steps.set_samples((end - first) * 8);
      stream->Write(request);
    }
    void Checkpoint(int64_t step, const std::string& path) {
      v1::SessionRequest request;
      request.mutable_checkpoint_saved()->set_step(step);
      request.mutable_checkpoint_saved()->set_path(path);
      stream->Write(request);
    }
    // Says goodbye and waits for the end of the stream.
    grpc::Status Goodbye(v1::Goodbye::Outcome outcome, int64_t step) {
      v1::SessionRequest request;
      request.mutable_goodbye()->set_generation(generation);
      request.mutable_goodbye()->set_outcome(outcome);
      request.mutable_goodbye()->set_step(step);
      stream->Write(request);
      return Finish();
    }
    // Reads what is left and gives the stream's status.
    grpc::Status Finish() {
      stream->WritesDone();
      v1::SessionResponse ignored;
      while (stream->Read(&ignored)) {
      }
      return stream->Finish();
    }
  };

  // Says hello and reads the welcome; not welcomed where the stream ends instead.
  std::unique_ptr<Worker> Connect(const std::string& job_id, int64_t generation, int rank, int world,
                                  bool* welcomed = nullptr) {
    auto worker = std::make_unique<Worker>();
    SetDeadline(worker->context);
    worker->generation = generation;
    worker->stream = workers_->Session(&worker->context);
    v1::SessionRequest request;
    v1::Hello& hello = *request.mutable_hello();
    hello.set_job_id(job_id);
    hello.set_generation(generation);
    hello.set_rank(rank);
    hello.set_world_size(world);
    hello.set_host("here");
    hello.set_pid(100 + rank);
    worker->stream->Write(request);
    v1::SessionResponse response;
    const bool ok = worker->stream->Read(&response) && response.has_welcome();
    if (welcomed != nullptr) {
      *welcomed = ok;
    } else {
      EXPECT_TRUE(ok);
    }
    worker->welcome = response.welcome();
    return worker;
  }

  std::string dir_;
  core::Limits limits_;
  SystemClock clock_;
  EventHub hub_;
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<TimerQueue> timers_;
  std::unique_ptr<launch::FakeLauncher> launcher_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::TrainingService::Stub> training_;
  std::unique_ptr<v1::WorkerService::Stub> workers_;
};

}  // namespace lockstep::rpc
