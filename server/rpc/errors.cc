// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/errors.h"

#include "absl/strings/str_cat.h"
#include "lockstep/rpc/status.pb.h"

namespace lockstep::rpc {
namespace {

// google.protobuf.Any::PackFrom would write this project's own names for the messages.
void Pack(const google::protobuf::Message& detail, const std::string& name, lockstep::rpc::Status* status) {
  google::protobuf::Any* any = status->add_details();
  any->set_type_url(absl::StrCat("type.googleapis.com/google.rpc.", name));
  detail.SerializeToString(any->mutable_value());
}

ErrorInfo MakeInfo(const std::string& reason) {
  ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("lockstep");
  return info;
}

}  // namespace

std::string CodeName(grpc::StatusCode code) { return absl::StatusCodeToString(static_cast<absl::StatusCode>(code)); }

grpc::Status ToGrpc(const absl::Status& status, const std::string& reason) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::string message(status.message());
  lockstep::rpc::Status details;
  details.set_code(code);
  details.set_message(message);
  Pack(MakeInfo(reason.empty() ? CodeName(code) : reason), "ErrorInfo", &details);
  return grpc::Status(code, message, details.SerializeAsString());
}

grpc::Status ToGrpc(const Violations& violations, const std::string& prefix) {
  if (violations.empty()) return grpc::Status::OK;
  const Violation& first = violations.list().front();
  std::string message = absl::StrCat(prefix, first.field, ": ", first.description);
  if (violations.count() > 1) absl::StrAppend(&message, " (and ", violations.count() - 1, " more)");
  lockstep::rpc::Status details;
  details.set_code(grpc::StatusCode::INVALID_ARGUMENT);
  details.set_message(message);
  Pack(MakeInfo("INVALID_SPEC"), "ErrorInfo", &details);
  BadRequest bad;
  for (const Violation& violation : violations.list()) {
    BadRequest::FieldViolation* field = bad.add_field_violations();
    field->set_field(prefix + violation.field);
    field->set_description(violation.description);
  }
  Pack(bad, "BadRequest", &details);
  return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, message, details.SerializeAsString());
}

}  // namespace lockstep::rpc
