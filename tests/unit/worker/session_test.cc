// SPDX-License-Identifier: Apache-2.0
// The worker's end of the stream against a coordinator of the test's own.
#include "worker/train/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "grpcpp/grpcpp.h"
#include "lockstep/v1/worker_service.grpc.pb.h"

namespace lockstep {
namespace {

using namespace std::chrono_literals;
using Stream = grpc::ServerReaderWriter<v1::SessionResponse, v1::SessionRequest>;

class FakeCoordinator final : public v1::WorkerService::Service {
 public:
  grpc::Status Session(grpc::ServerContext*, Stream* stream) override { return handler(*stream); }
  std::function<grpc::Status(Stream&)> handler;
};

void Welcome(Stream& stream, int64_t total_steps) {
  v1::SessionResponse response;
  response.mutable_welcome()->set_total_steps(total_steps);
  stream.Write(response);
}

class SessionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    address_ = absl::StrCat("127.0.0.1:", port);
  }
  absl::StatusOr<std::unique_ptr<GrpcSession>> Connect() {
    v1::Hello hello;
    hello.set_generation(7);
    hello.set_rank(1);
    return GrpcSession::Connect(address_, hello, 5s, [this](const std::string& reason) {
      std::lock_guard lock(mutex_);
      lost_ = reason;
      changed_.notify_all();
    });
  }
  std::string AwaitLost() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, 5s, [this] { return !lost_.empty(); });
    return lost_;
  }
  FakeCoordinator service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string lost_;
};

TEST_F(SessionTest, LeasesAreAskedForAheadAndCoverEveryStep) {
  constexpr int64_t kTotal = 100'000;
  int64_t asked = 0, granted = 0;
  std::vector<v1::SessionRequest> received;
  service_.handler = [&](Stream& stream) {
    v1::SessionRequest request;
    while (stream.Read(&request)) {
      received.push_back(request);
      if (request.has_hello()) Welcome(stream, kTotal);
      if (!request.has_lease_request()) continue;
      EXPECT_EQ(request.lease_request().generation(), 7);
      ++asked;
      v1::SessionResponse response;
      v1::Lease& lease = *response.mutable_lease();
      lease.set_generation(7);
      lease.set_rank(1);
      lease.set_first_step(granted);
      granted = std::min(kTotal, granted + request.lease_request().steps());
      lease.set_end_step(granted);
      stream.Write(response);
    }
    return grpc::Status::OK;
  };
  auto session = Connect();
  ASSERT_TRUE(session.ok()) << session.status();
  for (int64_t step = 0; step < kTotal; ++step) ASSERT_TRUE((*session)->AwaitLease(step).ok());
  v1::SessionRequest report;
  report.mutable_digest_report()->set_step(9);
  (*session)->Report(report);
  v1::Goodbye goodbye;
  goodbye.set_step(kTotal);
  (*session)->Close(goodbye, 5s);
  session->reset();
  server_->Shutdown();
  EXPECT_EQ(granted, kTotal);
  // Leases grow: far fewer requests than steps.
  EXPECT_LT(asked, 20);
  ASSERT_GE(received.size(), 3u);
  EXPECT_TRUE(received.front().has_hello());
  EXPECT_TRUE(received[received.size() - 2].has_digest_report());
  EXPECT_EQ(received.back().goodbye().step(), kTotal);
  EXPECT_EQ(lost_, "");
}

TEST_F(SessionTest, ALostCoordinatorIsNoticedAndEndsTheWaitForALease) {
  service_.handler = [&](Stream& stream) {
    v1::SessionRequest request;
    stream.Read(&request);
    Welcome(stream, 10);
    // Dies instead of granting.
    stream.Read(&request);
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "going away");
  };
  auto session = Connect();
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ((*session)->AwaitLease(0).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(AwaitLost(), "going away");
}

TEST_F(SessionTest, AStopIsSeen) {
  service_.handler = [&](Stream& stream) {
    v1::SessionRequest request;
    stream.Read(&request);
    Welcome(stream, 10);
    v1::SessionResponse response;
    response.mutable_stop()->set_checkpoint(true);
    stream.Write(response);
    while (stream.Read(&request)) {
    }
    return grpc::Status::OK;
  };
  auto session = Connect();
  ASSERT_TRUE(session.ok()) << session.status();
  const auto deadline = std::chrono::steady_clock::now() + 5s;
  while ((*session)->stop_request() == StopRequest::kNone && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_EQ((*session)->stop_request(), StopRequest::kStopWithCheckpoint);
}

TEST_F(SessionTest, ARefusalSaysWhy) {
  service_.handler = [&](Stream&) {
    return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "generation 7 is stale, the job is at 8");
  };
  const auto session = Connect();
  EXPECT_THAT(std::string(session.status().message()), ::testing::HasSubstr("generation 7 is stale"));
}

}  // namespace
}  // namespace lockstep
