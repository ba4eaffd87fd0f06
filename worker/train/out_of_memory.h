// SPDX-License-Identifier: Apache-2.0
// What a job is told where memory is short.
#pragma once

#include "absl/status/status.h"
#include "common/model/job_plan.h"

namespace lockstep {

// RESOURCE_EXHAUSTED of what a rank takes for training becomes a permanent failure that says how much the rank wants,
// and for what. Any other status, and that of a place to resume from, stays as it is.
absl::Status ExplainMemory(absl::Status status, const lockstep::v1::JobSpec& spec, const JobPlan& plan, int rank,
                           int workers);

}  // namespace lockstep
