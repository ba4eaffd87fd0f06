// SPDX-License-Identifier: Apache-2.0
// Calls to the coordinator: every one has a deadline, and every error becomes a line, a hint and an
// exit status.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cli/options.h"
#include "grpcpp/grpcpp.h"
#include "lockstep/v1/training_service.grpc.pb.h"

namespace lockstep::cli {

class Client {
 public:
  explicit Client(const Options& options);

  lockstep::v1::TrainingService::Stub& stub() { return *stub_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

  // (stub.get()->*method)(context, request, response) with the deadline of the options.
  template <typename Request, typename Response>
  grpc::Status Call(grpc::Status (lockstep::v1::TrainingService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                                Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext context;
    SetDeadline(context);
    return (stub_.get()->*method)(&context, request, response);
  }

  void SetDeadline(grpc::ClientContext& context) const;

 private:
  std::chrono::milliseconds timeout_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<lockstep::v1::TrainingService::Stub> stub_;
};

// A random one, so that a retry within the call is not a second job.
std::string NewRequestId();

// Prints the error, every violation it carries and what to do, to options.err; returns the exit status.
int ReportError(const Options& options, const grpc::Status& status);

// The protobuf JSON mapping, on one line or indented.
std::string ToJson(const google::protobuf::Message& message, bool indented);

}  // namespace lockstep::cli
