// SPDX-License-Identifier: Apache-2.0
// The worker's end of the stream against a coordinator of the test's own.
#include "worker/train/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "grpcpp/grpcpp.h"
#include "lockstep/v1/worker_service.grpc.pb.h"
#include "worker/train/tell_device.h"

namespace lockstep {
namespace {

using namespace std::chrono_literals;
using Stream = grpc::ServerReaderWriter<v1::SessionResponse, v1::SessionRequest>;

class FakeCoordinator final : public v1::WorkerService::Service {
 public:
  grpc::Status Session(grpc::ServerContext*, Stream* stream) override { return handler(*stream); }
  std::function<grpc::Status(Stream&)> handler;
};

void Welcome(Stream& stream, int64_t total_steps, int64_t last_report = 0) {
  v1::SessionResponse response;
  response.mutable_welcome()->set_total_steps(total_steps);
  response.mutable_welcome()->set_last_report(last_report);
  stream.Write(response);
}

void Acknowledge(Stream& stream, int64_t report) {
  v1::SessionResponse response;
  response.mutable_ack()->set_report(report);
  stream.Write(response);
}

void Grant(Stream& stream, int64_t first_step, int64_t end_step) {
  v1::SessionResponse response;
  v1::Lease& lease = *response.mutable_lease();
  lease.set_generation(7);
  lease.set_rank(1);
  lease.set_first_step(first_step);
  lease.set_end_step(end_step);
  stream.Write(response);
}

v1::SessionRequest Digest(int64_t step) {
  v1::SessionRequest report;
  report.mutable_digest_report()->add_digests()->set_step(step);
  return report;
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
      if (!request.has_heartbeat()) received.push_back(request);
      if (request.has_hello()) Welcome(stream, kTotal);
      if (request.report() > 0) Acknowledge(stream, request.report());
      if (request.has_goodbye()) return grpc::Status::OK;
      if (!request.has_lease_request()) continue;
      EXPECT_EQ(request.lease_request().generation(), 7);
      ++asked;
      const int64_t first = granted;
      granted = std::min(kTotal, granted + request.lease_request().steps());
      Grant(stream, first, granted);
    }
    return grpc::Status::OK;
  };
  auto session = Connect();
  ASSERT_TRUE(session.ok()) << session.status();
  for (int64_t step = 0; step < kTotal; ++step) ASSERT_TRUE((*session)->AwaitLease(step).ok());
  EXPECT_EQ((*session)->Report(Digest(9)), 1);
  v1::Goodbye goodbye;
  goodbye.set_step(kTotal);
  (*session)->Close(goodbye, 5s);
  EXPECT_EQ((*session)->acknowledged(), 2);
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

TEST_F(SessionTest, TheGroupsIdIsAskedForOnEachStreamUntilItComes) {
  std::atomic<int> streams{0};
  service_.handler = [&](Stream& stream) {
    const bool first = ++streams == 1;
    v1::SessionRequest request;
    while (stream.Read(&request)) {
      if (request.has_hello()) Welcome(stream, 100);
      if (!request.has_group_id_request()) continue;
      EXPECT_EQ(request.group_id_request().generation(), 7);
      // The answer is lost with the stream.
      if (first) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
      v1::SessionResponse response;
      response.mutable_group_id()->set_generation(6);
      response.mutable_group_id()->set_id("of another generation");
      stream.Write(response);
      response.mutable_group_id()->set_generation(7);
      response.mutable_group_id()->set_id("here");
      stream.Write(response);
    }
    return grpc::Status::OK;
  };
  auto session = Connect();
  ASSERT_TRUE(session.ok()) << session.status();
  const absl::StatusOr<std::string> id = (*session)->AwaitGroupId(5s);
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_EQ(*id, "here");
  EXPECT_EQ(streams.load(), 2);
}

TEST_F(SessionTest, ARankDoesNotWaitForEverForTheGroupsId) {
  service_.handler = [&](Stream& stream) {
    v1::SessionRequest request;
    while (stream.Read(&request)) {
      if (request.has_hello()) Welcome(stream, 100);
    }
    return grpc::Status::OK;
  };
  auto session = Connect();
  ASSERT_TRUE(session.ok()) << session.status();
  const absl::StatusOr<std::string> id = (*session)->AwaitGroupId(20ms);
  EXPECT_EQ(id.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(id.status().message(), ::testing::HasSubstr("rank 0"));
}

// A GPU that was chosen may not be the device that is used.
TEST_F(SessionTest, TheDeviceThatIsUsedIsToldOnceTheRanksAgreed) {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::string> devices, warnings;
  service_.handler = [&](Stream& stream) {
    v1::SessionRequest request;
    while (stream.Read(&request)) {
      const std::lock_guard lock(mutex);
      if (request.has_hello()) {
        devices.push_back(request.hello().device());
        Welcome(stream, 100, static_cast<int64_t>(warnings.size()));
      }
      changed.notify_all();
      if (!request.has_warning()) continue;
      warnings.push_back(request.warning().message());
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
    }
    return grpc::Status::OK;
  };
  auto session = Connect();
  ASSERT_TRUE(session.ok()) << session.status();
  // One rank tells, and only where there is something to tell.
  TellDevice(**session, 1, {.why_cpu = "rank 1 on host h has no GPU", .unused_gpus = 1}, "cpu");
  TellDevice(**session, 0, {.why_cpu = "rank 0 on host h has no GPU"}, "cpu");
  TellDevice(**session, 0, {.why_cpu = "rank 1 on host h has no GPU", .unused_gpus = 1}, "cpu of today");
  std::unique_lock lock(mutex);
  ASSERT_TRUE(changed.wait_for(lock, 5s, [&] { return devices.size() == 2; }));
  EXPECT_THAT(devices, ::testing::ElementsAre("", "cpu of today"));
  EXPECT_THAT(warnings, ::testing::ElementsAre("all workers train on the CPU, though 1 of them found a GPU: "
                                               "rank 1 on host h has no GPU"));
}

TEST_F(SessionTest, RankZeroGivesTheGroupsIdOnEachOfItsStreams) {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::string> given;
  service_.handler = [&](Stream& stream) {
    v1::SessionRequest request;
    while (stream.Read(&request)) {
      if (request.has_hello()) Welcome(stream, 100);
      if (!request.has_group_id()) continue;
      const std::lock_guard lock(mutex);
      given.push_back(request.group_id().id());
      changed.notify_all();
      if (given.size() == 1) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
    }
    return grpc::Status::OK;
  };
  v1::Hello hello;
  hello.set_generation(7);
  auto session = GrpcSession::Connect(address_, hello, 5s, nullptr);
  ASSERT_TRUE(session.ok()) << session.status();
  (*session)->GiveGroupId("here");
  std::unique_lock lock(mutex);
  EXPECT_TRUE(changed.wait_for(lock, 5s, [&] { return given.size() >= 2; }));
  EXPECT_THAT(given, ::testing::Each("here"));
}

TEST_F(SessionTest, TheTrainerNeverWaitsForACoordinatorThatIsAway) {
  service_.handler = [](Stream& stream) {
    v1::SessionRequest request;
    while (stream.Read(&request)) {
      if (request.has_hello()) Welcome(stream, 100);
      if (request.report() > 0) Acknowledge(stream, request.report());
    }
    return grpc::Status::OK;
  };
  auto session = Connect();
  ASSERT_TRUE(session.ok()) << session.status();
  server_->Shutdown(std::chrono::system_clock::now());
  server_.reset();
  // Long enough to find the stream broken and to try for another one.
  auto reports = std::async(std::launch::async, [&session] {
    int64_t last = 0;
    for (const auto end = std::chrono::steady_clock::now() + 1s; std::chrono::steady_clock::now() < end;) {
      last = (*session)->Report(Digest(1));
      (*session)->AwaitStored(last, 1ms);
    }
    return last;
  });
  EXPECT_EQ(reports.wait_for(5s), std::future_status::ready);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address_, grpc::InsecureServerCredentials());
  builder.RegisterService(&service_);
  server_ = builder.BuildAndStart();
  EXPECT_TRUE((*session)->AwaitStored(reports.get(), 5s));
  session->reset();
  server_->Shutdown();
}

// The coordinator dies twice: before it has granted, and before it has acknowledged.
TEST_F(SessionTest, ABrokenStreamIsOpenedAgainAndWhatWasNotStoredIsSentAgain) {
  std::vector<v1::Hello> hellos;
  std::vector<int64_t> reports;
  service_.handler = [&](Stream& stream) {
    v1::SessionRequest request;
    stream.Read(&request);
    hellos.push_back(request.hello());
    // The second one had stored the first report, but its acknowledgement was lost.
    Welcome(stream, 100, hellos.size() == 3 ? 1 : 0);
    while (stream.Read(&request)) {
      if (request.has_lease_request()) {
        if (hellos.size() == 1) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "going away");
        Grant(stream, 0, 100);
      }
      if (request.report() > 0) {
        reports.push_back(request.report());
        if (hellos.size() == 2 && reports.size() == 2) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "again");
        if (hellos.size() == 3) Acknowledge(stream, request.report());
      }
    }
    return grpc::Status::OK;
  };
  auto session = Connect();
  ASSERT_TRUE(session.ok()) << session.status();
  // Waits through the first death.
  ASSERT_TRUE((*session)->AwaitLease(0).ok());
  (*session)->Report(Digest(1));
  (*session)->Report(Digest(2));
  EXPECT_TRUE((*session)->AwaitStored(2, 10s));
  session->reset();
  server_->Shutdown();
  ASSERT_EQ(hellos.size(), 3u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(hellos[i].session(), i + 1);
  EXPECT_EQ(hellos[1].leased_end(), 0);
  EXPECT_EQ(hellos[2].leased_end(), 100) << "what was granted is said again";
  EXPECT_EQ(reports, (std::vector<int64_t>{1, 2, 2})) << "only what was not stored is sent again";
  EXPECT_EQ(lost_, "");
}

TEST_F(SessionTest, OnlyWhatWasNotSentCanBeTakenBack) {
  std::atomic<bool> away{false};
  std::mutex mutex;
  std::vector<v1::SessionRequest> received;
  service_.handler = [&](Stream& stream) {
    v1::SessionRequest request;
    stream.Read(&request);
    if (away.load()) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "still away");
    const std::lock_guard lock(mutex);
    Welcome(stream, 10, static_cast<int64_t>(received.size()));
    while (stream.Read(&request)) {
      if (request.report() == 0) continue;
      received.push_back(request);
      Acknowledge(stream, request.report());
      if (request.report() != 1) continue;
      away.store(true);
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "going away");
    }
    return grpc::Status::OK;
  };
  auto session = Connect();
  ASSERT_TRUE(session.ok()) << session.status();
  v1::SessionRequest commit;
  commit.mutable_commit_steps()->set_snapshot(true);
  EXPECT_EQ((*session)->Report(commit), 1);
  ASSERT_TRUE((*session)->AwaitStored(1, 5s));
  EXPECT_FALSE((*session)->WithdrawSnapshot(1));
  const auto deadline = std::chrono::steady_clock::now() + 5s;
  while (!away.load() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  // The stream's end may not have been noticed yet; what is queued from then on cannot be sent.
  int64_t last = 1;
  do {
    last = (*session)->Report(commit);
  } while (!(*session)->WithdrawSnapshot(last) && std::chrono::steady_clock::now() < deadline);
  away.store(false);
  EXPECT_TRUE((*session)->AwaitStored(last, 5s));
  session->reset();
  server_->Shutdown();
  ASSERT_EQ(static_cast<int64_t>(received.size()), last);
  EXPECT_TRUE(received.front().commit_steps().snapshot());
  EXPECT_FALSE(received.back().commit_steps().snapshot());
}

TEST_F(SessionTest, ARankThatIsNotWantedAnyMoreIsToldAndStopsWaiting) {
  service_.handler = [&](Stream& stream) {
    v1::SessionRequest request;
    stream.Read(&request);
    Welcome(stream, 10);
    while (stream.Read(&request) && !request.has_lease_request()) {
    }
    return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "generation 7 is stale");
  };
  auto session = Connect();
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ((*session)->AwaitLease(0).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(AwaitLost(), "generation 7 is stale");
}

TEST_F(SessionTest, HeartbeatsSayWhatTheTrainerIsAt) {
  v1::Heartbeat newest;
  std::mutex mutex;
  service_.handler = [&](Stream& stream) {
    v1::SessionRequest request;
    stream.Read(&request);
    Welcome(stream, 10);
    while (stream.Read(&request)) {
      const std::lock_guard lock(mutex);
      if (request.has_heartbeat()) newest = request.heartbeat();
    }
    return grpc::Status::OK;
  };
  auto session = Connect();
  ASSERT_TRUE(session.ok()) << session.status();
  (*session)->progress().phase.store(v1::Heartbeat::PHASE_STEP);
  (*session)->progress().step_seconds.store(0.25);
  (*session)->progress().Advance();
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  const auto seen = [&] {
    const std::lock_guard lock(mutex);
    return newest.phase() == v1::Heartbeat::PHASE_STEP && newest.progress() == 1 && newest.step_seconds() == 0.25;
  };
  while (!seen() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  EXPECT_TRUE(seen());
  EXPECT_EQ(newest.generation(), 7);
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
