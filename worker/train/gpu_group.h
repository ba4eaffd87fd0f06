// SPDX-License-Identifier: Apache-2.0
// How the ranks of a generation come together on their GPUs.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "worker/comm/nccl/nccl_group.h"
#include "worker/train/session.h"

namespace lockstep {

// Rank 0 makes the group's id and gives it to the coordinator, the others wait until it has come from there; then all
// meet. `api` outlives the group. Each wait has options.timeout; errors as of AwaitGroupId and NcclGroup::Join.
absl::StatusOr<std::unique_ptr<nccl::NcclGroup>> MeetOnGpus(GrpcSession& session, const nccl::NcclApi* api,
                                                            nccl::GroupOptions options);

}  // namespace lockstep
