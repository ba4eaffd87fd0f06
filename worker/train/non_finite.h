// SPDX-License-Identifier: Apache-2.0
// Where numbers first stopped being finite: each rank looks through its own shards, and the ranks agree on
// the first place of all.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"

namespace lockstep {

// What a rank found; sent as it is.
struct NonFiniteRecord {
  static constexpr int64_t kNowhere = INT64_MAX;
  // See Model::FirstNonFinite.
  int64_t place = kNowhere;
  int64_t shard = kNowhere;
  int64_t rank = 0;
};

// The first place of all ranks' in the order of the arithmetic, of the lowest shard where several have it. The
// same on every rank. A collective.
absl::StatusOr<NonFiniteRecord> FirstOfAll(Communicator& communicator, const NonFiniteRecord& mine);

}  // namespace lockstep
