// SPDX-License-Identifier: Apache-2.0
// The gRPC server with both services, health and reflection.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/grpcpp.h"
#include "server/rpc/training_service.h"
#include "server/rpc/worker_service.h"

namespace lockstep::rpc {

class RpcServer {
 public:
  // Serves on every address: "host:port" (port 0: any free one) or "unix:/path". FAILED_PRECONDITION
  // where one cannot be listened on.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(const ServiceContext& context,
                                                          const std::vector<std::string>& addresses);
  ~RpcServer();

  // As asked for, with the real port.
  const std::vector<std::string>& addresses() const { return addresses_; }
  // Says NOT_SERVING to health checks.
  void SetNotServing();
  // Ends all calls; those still running at the deadline are cancelled.
  void Shutdown(std::chrono::milliseconds grace);

 private:
  explicit RpcServer(const ServiceContext& context) : training_(context), worker_(context) {}

  TrainingServiceImpl training_;
  WorkerServiceImpl worker_;
  std::vector<std::string> addresses_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace lockstep::rpc
