// SPDX-License-Identifier: Apache-2.0
// The service for workers: one stream per rank.
#pragma once

#include <utility>

#include "grpcpp/grpcpp.h"
#include "lockstep/v1/worker_service.grpc.pb.h"
#include "server/rpc/training_service.h"

namespace lockstep::rpc {

class WorkerServiceImpl final : public lockstep::v1::WorkerService::CallbackService {
 public:
  explicit WorkerServiceImpl(ServiceContext context) : context_(std::move(context)) {}

  grpc::ServerBidiReactor<lockstep::v1::SessionRequest, lockstep::v1::SessionResponse>* Session(
      grpc::CallbackServerContext* call) override;

 private:
  const ServiceContext context_;
};

}  // namespace lockstep::rpc
