// SPDX-License-Identifier: Apache-2.0
// Between the wire contract, the core and the store.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "google/protobuf/message.h"
#include "google/protobuf/timestamp.pb.h"
#include "lockstep/v1/job.pb.h"
#include "lockstep/v1/worker_service.pb.h"
#include "server/core/events.h"
#include "server/store/store.h"

namespace lockstep::rpc {

lockstep::v1::JobState ToProto(core::JobState state);
google::protobuf::Timestamp ToProto(Clock::Wall time);
// The job as clients see it: status and spec of a row. DATA_LOSS where the bytes are damaged.
absl::StatusOr<lockstep::v1::Job> ToProto(const store::JobRow& row);
// What a worker says, as an event; INVALID_ARGUMENT for an empty or second Hello. `from` is the session's
// own; where the message carries a generation of its own, that one counts.
absl::StatusOr<core::Event> ToEvent(const lockstep::v1::SessionRequest& request, const core::FromWorker& from);
core::HelloSaid ToEvent(const lockstep::v1::Hello& hello);
// Protobuf JSON on one line.
std::string ToJson(const google::protobuf::Message& message);

}  // namespace lockstep::rpc
