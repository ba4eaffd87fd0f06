// SPDX-License-Identifier: Apache-2.0
// The stored jobs and events as protobuf JSON, for the web.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "server/store/store.h"

namespace lockstep::rpc {

// {"jobs": [...]}, newest first, at most 200.
absl::StatusOr<std::string> JobsJson(const store::Store& store);
// {"job": {...}}.
absl::StatusOr<std::string> JobJson(const store::Store& store, const std::string& job_id);
// {"events": [...]} with sequence > after, at most 1000.
absl::StatusOr<std::string> EventsJson(const store::Store& store, const std::string& job_id, int64_t after);

}  // namespace lockstep::rpc
