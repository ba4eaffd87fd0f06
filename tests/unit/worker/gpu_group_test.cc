// SPDX-License-Identifier: Apache-2.0
// Two ranks meet on their GPUs through a coordinator of the test's own.
#include "worker/train/gpu_group.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <string>

#include "absl/strings/str_cat.h"
#include "grpcpp/grpcpp.h"
#include "lockstep/v1/worker_service.grpc.pb.h"
#include "tests/unit/worker/nccl/fake_nccl.h"

namespace lockstep {
namespace {

using namespace std::chrono_literals;

// Hands rank 0's id to rank 1.
class Coordinator final : public v1::WorkerService::Service {
 public:
  grpc::Status Session(grpc::ServerContext*,
                       grpc::ServerReaderWriter<v1::SessionResponse, v1::SessionRequest>* stream) override {
    v1::SessionRequest request;
    while (stream->Read(&request)) {
      v1::SessionResponse response;
      if (request.has_hello()) {
        response.mutable_welcome();
        stream->Write(response);
      }
      std::unique_lock lock(mutex_);
      if (request.has_group_id()) {
        id_ = request.group_id();
        changed_.notify_all();
      }
      if (!request.has_group_id_request()) continue;
      changed_.wait_for(lock, 5s, [&] { return !id_.id().empty(); });
      *response.mutable_group_id() = id_;
      stream->Write(response);
    }
    return grpc::Status::OK;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  v1::GroupId id_;
};

TEST(GpuGroupTest, RanksMeetUnderTheIdOfRankZero) {
  Coordinator service;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  std::unique_ptr<GrpcSession> sessions[2];
  for (int rank = 0; rank < 2; ++rank) {
    v1::Hello hello;
    hello.set_generation(3);
    hello.set_rank(rank);
    auto session = GrpcSession::Connect(absl::StrCat("127.0.0.1:", port), hello, 5s, nullptr);
    ASSERT_TRUE(session.ok()) << session.status();
    sessions[rank] = std::move(*session);
  }
  nccl::FakeGpus gpus(2);
  const SystemClock clock;
  for (int rank = 0; rank < 2; ++rank) {
    const auto group =
        MeetOnGpus(*sessions[rank], &nccl::FakeGpus::Api(), {.rank = rank, .size = 2, .timeout = 5s, .clock = &clock});
    ASSERT_TRUE(group.ok()) << group.status();
    EXPECT_EQ((*group)->rank(), rank);
  }
  sessions[0].reset();
  sessions[1].reset();
  server->Shutdown(std::chrono::system_clock::now());
}

}  // namespace
}  // namespace lockstep
