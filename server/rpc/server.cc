// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/server.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"

namespace lockstep::rpc {
namespace {

constexpr int kMaxReceiveBytes = 4 << 20;

void SetChannelArguments(grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  // Without it a second server would silently share the port.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 1'000);
}

}  // namespace

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(const ServiceContext& context,
                                                            const std::vector<std::string>& addresses) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  std::unique_ptr<RpcServer> self(new RpcServer(context));
  grpc::ServerBuilder builder;
  SetChannelArguments(builder);
  std::vector<int> ports(addresses.size(), 0);
  for (size_t i = 0; i < addresses.size(); ++i) {
    builder.AddListeningPort(addresses[i], grpc::InsecureServerCredentials(), &ports[i]);
  }
  builder.RegisterService(&self->training_);
  builder.RegisterService(&self->worker_);
  self->server_ = builder.BuildAndStart();
  for (size_t i = 0; i < addresses.size(); ++i) {
    if (self->server_ == nullptr || ports[i] <= 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "cannot listen on ", addresses[i], ": it is in use by another program, or not an address of this machine"));
    }
    const bool is_unix = absl::StartsWith(addresses[i], "unix:");
    self->addresses_.push_back(is_unix ? addresses[i]
                                       : absl::StrCat(addresses[i].substr(0, addresses[i].rfind(':')), ":", ports[i]));
  }
  for (const char* service : {"lockstep.v1.TrainingService", "lockstep.v1.WorkerService"}) {
    self->server_->GetHealthCheckService()->SetServingStatus(service, true);
  }
  return self;
}

RpcServer::~RpcServer() { Shutdown(std::chrono::milliseconds(0)); }

void RpcServer::SetNotServing() {
  if (server_ != nullptr && server_->GetHealthCheckService() != nullptr) server_->GetHealthCheckService()->Shutdown();
}

void RpcServer::Shutdown(std::chrono::milliseconds grace) {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now() + grace);
  server_->Wait();
  server_ = nullptr;
}

}  // namespace lockstep::rpc
