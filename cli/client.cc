// SPDX-License-Identifier: Apache-2.0
#include "cli/client.h"

#include <ostream>
#include <random>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "cli/exit_codes.h"
#include "google/protobuf/util/json_util.h"
#include "lockstep/rpc/status.pb.h"

namespace lockstep::cli {

namespace {

constexpr const char* kBadRequest = "type.googleapis.com/google.rpc.BadRequest";

// Prints the field violations; false where there are none.
bool PrintViolations(std::ostream& out, const grpc::Status& status) {
  rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return false;
  bool any = false;
  for (const google::protobuf::Any& detail : details.details()) {
    rpc::BadRequest bad;
    if (detail.type_url() != kBadRequest || !bad.ParseFromString(detail.value())) continue;
    for (const auto& violation : bad.field_violations()) {
      absl::string_view field = violation.field();
      absl::ConsumePrefix(&field, "spec.");
      out << "  " << field << ": " << violation.description() << "\n";
      any = true;
    }
  }
  return any;
}

std::string Hint(const Options& options, grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::UNAVAILABLE:
      return absl::StrCat("Is a coordinator running at ", options.server,
                          "? Start one with lockstepd, or name another with --server or LOCKSTEP_SERVER.");
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return absl::StrCat(options.server, " did not answer in time; --timeout sets how long to wait.");
    case grpc::StatusCode::NOT_FOUND:
      return "`lockstep list` shows the jobs that there are.";
    default:
      return "";
  }
}

}  // namespace

int ExitCode(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return kOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented:
      return kUsage;
    case absl::StatusCode::kNotFound:
      return kNotFound;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kUnavailable;
    case absl::StatusCode::kCancelled:
      return kInterrupted;
    default:
      return kConflict;
  }
}

Client::Client(const Options& options) : timeout_(options.timeout) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2'000);
  channel_ = grpc::CreateCustomChannel(options.server, grpc::InsecureChannelCredentials(), arguments);
  stub_ = v1::TrainingService::NewStub(channel_);
}

void Client::SetDeadline(grpc::ClientContext& context) const {
  context.set_deadline(std::chrono::system_clock::now() + timeout_);
}

std::string NewRequestId() {
  std::random_device random;
  return absl::StrFormat("%08x%08x%08x%08x", random(), random(), random(), random());
}

int ReportError(const Options& options, const grpc::Status& status) {
  std::ostringstream violations;
  if (PrintViolations(violations, status)) {
    // The message only repeats the first of them.
    *options.err << "error: the request was refused\n" << violations.str();
  } else {
    *options.err << "error: " << status.error_message() << "\n";
  }
  const std::string hint = Hint(options, status.error_code());
  if (!hint.empty()) *options.err << hint << "\n";
  return ExitCode(static_cast<absl::StatusCode>(status.error_code()));
}

std::string ToJson(const google::protobuf::Message& message, bool indented) {
  google::protobuf::util::JsonPrintOptions print;
  print.add_whitespace = indented;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text, print);
  return status.ok() ? text : std::string();
}

}  // namespace lockstep::cli
