// SPDX-License-Identifier: Apache-2.0
// A coordinator with real gRPC and a real store, a fake launcher, and workers played by the test.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
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
    launcher_->FindGroups(groups_live_on_);
    CoordinatorOptions options{.state_dir = dir_, .data_roots = {"/data"}, .slots = 4, .limits = limits_};
    options.on_store = [this](bool failing) { (failing ? store_failures_ : store_recoveries_).fetch_add(1); };
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
      JobPlan plan{.logical_shards = 4, .steps_per_epoch = kSteps};
      plan.total_steps = kSteps * spec.training().epochs();
      // The last batch of an epoch is a short one.
      plan.dataset.train_samples = kSteps * 8 - 3;
      return plan;
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
    // The number of its newest report, and of the newest that is acknowledged.
    int64_t reports = 0;
    int64_t acked = 0;
    // All reports, by number from 1.
    std::vector<v1::SessionRequest> sent;

    // Reads until something other than an acknowledgement comes; false where the stream ends.
    bool Read(v1::SessionResponse* response) {
      while (stream->Read(response)) {
        if (!response->has_ack()) return true;
        acked = response->ack().report();
      }
      return false;
    }
    // What was reported up to now is stored.
    void AwaitAck() {
      v1::SessionResponse response;
      while (acked < reports) {
        ASSERT_TRUE(stream->Read(&response)) << "acknowledged: " << acked << " of " << reports;
        if (response.has_ack()) acked = response.ack().report();
      }
    }
    void Report(v1::SessionRequest request) {
      request.set_report(++reports);
      stream->Write(request);
      sent.push_back(std::move(request));
    }
    v1::Lease Lease(int64_t steps) {
      v1::SessionRequest request;
      request.mutable_lease_request()->set_generation(generation);
      request.mutable_lease_request()->set_steps(steps);
      stream->Write(request);
      v1::SessionResponse response;
      EXPECT_TRUE(Read(&response) && response.has_lease()) << response.ShortDebugString();
      return response.lease();
    }
    void Commit(int64_t first, int64_t end, const std::string& digest = "") {
      v1::SessionRequest request;
      v1::StepsCommitted& steps = *request.mutable_commit_steps()->mutable_steps();
      steps.set_first_step(first);
      steps.set_end_step(end);
      steps.set_generation(generation);
      steps.set_loss(1.0 / static_cast<double>(end));
      steps.set_samples((end - first) * 8);
      if (!digest.empty()) {
        v1::StepDigest& hash = *request.mutable_commit_steps()->add_digests();
        hash.set_step(end);
        hash.set_digest(digest);
      }
      Report(std::move(request));
    }
    void Checkpoint(int64_t step, const std::string& path) {
      v1::SessionRequest request;
      request.mutable_checkpoint_saved()->set_step(step);
      request.mutable_checkpoint_saved()->set_path(path);
      Report(std::move(request));
    }
    // Says goodbye and waits for the end of the stream.
    grpc::Status Goodbye(v1::Goodbye::Outcome outcome, int64_t step) {
      v1::SessionRequest request;
      request.mutable_goodbye()->set_generation(generation);
      request.mutable_goodbye()->set_outcome(outcome);
      request.mutable_goodbye()->set_step(step);
      Report(std::move(request));
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

  struct HelloOptions {
    int64_t session = 1;
    int64_t leased_end = 0;
    std::string host = "here";
    // 0: 100 and the rank.
    int64_t pid = 0;
  };
  // Says hello and reads the welcome; not welcomed where the stream ends instead.
  std::unique_ptr<Worker> Connect(const std::string& job_id, int64_t generation, int rank, int world,
                                  bool* welcomed = nullptr) {
    return Connect(job_id, generation, rank, world, HelloOptions{}, welcomed);
  }
  std::unique_ptr<Worker> Connect(const std::string& job_id, int64_t generation, int rank, int world,
                                  const HelloOptions& options, bool* welcomed = nullptr) {
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
    hello.set_host(options.host);
    hello.set_pid(options.pid == 0 ? 100 + rank : options.pid);
    hello.set_session(options.session);
    hello.set_leased_end(options.leased_end);
    worker->stream->Write(request);
    v1::SessionResponse response;
    const bool ok = worker->Read(&response) && response.has_welcome();
    if (welcomed != nullptr) {
      *welcomed = ok;
    } else {
      EXPECT_TRUE(ok);
    }
    worker->welcome = response.welcome();
    worker->reports = worker->acked = response.welcome().last_report();
    return worker;
  }
  // Opens the worker's next stream and sends again what is not known to be stored.
  std::unique_ptr<Worker> Reconnect(const std::string& job_id, const Worker& before, int rank, int world,
                                    int64_t session, int64_t leased_end) {
    auto worker = Connect(job_id, before.generation, rank, world, {.session = session, .leased_end = leased_end});
    for (const v1::SessionRequest& report : before.sent) {
      if (report.report() > before.acked) worker->stream->Write(report);
    }
    worker->sent = before.sent;
    worker->reports = before.reports;
    return worker;
  }

  template <typename Request, typename Response>
  grpc::Status Call(grpc::Status (v1::TrainingService::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext context;
    SetDeadline(context);
    return (training_.get()->*method)(&context, request, response);
  }
  // The rows that count follow on each other from `first` to this step; -1 where they do not.
  int64_t LedgerEnd(const std::string& job_id, int64_t first = 0) {
    const auto ledger = store_->Ledger(job_id);
    int64_t end = first;
    for (const store::LedgerRow& row : *ledger) {
      if (row.voided) continue;
      if (row.first_step != end) return -1;
      end = row.end_step;
    }
    return end;
  }
  // A folder with something in it.
  std::string MakeCheckpoint(const std::string& name) {
    const std::string path = dir_ + "/" + name;
    std::filesystem::create_directories(path);
    std::ofstream(path + "/model.safetensors") << "12345678";
    return path;
  }

  std::string dir_;
  core::Limits limits_;
  // What a coordinator that starts finds of its predecessor's groups.
  bool groups_live_on_ = true;
  std::atomic<int> store_failures_{0};
  std::atomic<int> store_recoveries_{0};
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
