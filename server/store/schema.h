// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "absl/status/status.h"
#include "server/store/sqlite.h"

namespace lockstep::store {

// Brings the tables to the newest version, one transaction per version. FAILED_PRECONDITION where the
// file was written by a newer program.
absl::Status Migrate(Database& database);

}  // namespace lockstep::store
