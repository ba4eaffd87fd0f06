// SPDX-License-Identifier: Apache-2.0
// Errors as clients see them: a gRPC status that carries google.rpc.ErrorInfo and, for wrong requests,
// google.rpc.BadRequest.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "common/model/violations.h"
#include "grpcpp/support/status.h"

namespace lockstep::rpc {

// `reason` is UPPER_SNAKE_CASE; empty: the code's name.
grpc::Status ToGrpc(const absl::Status& status, const std::string& reason = "");
// INVALID_ARGUMENT with every violation; `prefix` goes before each field ("spec.").
grpc::Status ToGrpc(const Violations& violations, const std::string& prefix);
// "NOT_FOUND".
std::string CodeName(grpc::StatusCode code);

}  // namespace lockstep::rpc
