// SPDX-License-Identifier: Apache-2.0
#include "worker/train/gpu_group.h"

#include <string>
#include <utility>

#include "common/status_macros.h"

namespace lockstep {

absl::StatusOr<std::unique_ptr<nccl::NcclGroup>> MeetOnGpus(GrpcSession& session, const nccl::NcclApi* api,
                                                            nccl::GroupOptions options) {
  std::string id;
  if (options.rank == 0) {
    LOCKSTEP_ASSIGN_OR_RETURN(id, nccl::NcclGroup::MakeId(*api));
    session.GiveGroupId(id);
  } else {
    LOCKSTEP_ASSIGN_OR_RETURN(id, session.AwaitGroupId(options.timeout));
  }
  return nccl::NcclGroup::Join(api, id, std::move(options));
}

}  // namespace lockstep
