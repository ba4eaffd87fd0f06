// SPDX-License-Identifier: Apache-2.0
// Which way gradients go between GPUs: over NCCL from GPU to GPU, or through the hosts and MPI. The bits are the same.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"
#include "worker/comm/nccl/nccl_group.h"
#include "worker/comm/nccl/nccl_reducer.h"
#include "worker/comm/nccl/reduce_ops.h"
#include "worker/train/gradient_sum.h"

namespace lockstep {

// The same on every rank.
struct SumFacts {
  // All ranks compute on GPUs.
  bool on_gpus = false;
  int ranks = 1;
  int shards = 1;
  // Ranks share a GPU.
  bool shared = false;
};
struct SumChoice {
  bool nccl = false;
  // Where GPUs send their gradients through the hosts: why, for people.
  std::string why_staged;
};
// Whether NCCL is to be used if every rank can load it.
SumChoice ChooseSum(const SumFacts& facts);

using NcclLoader = std::function<absl::StatusOr<const nccl::NcclApi*>()>;
struct NcclForAll {
  // Null: gradients do not go over NCCL, on any rank.
  const nccl::NcclApi* api = nullptr;
  std::string why_staged;
};
// `load` is called where ChooseSum wants NCCL. A collective where it does; errors as of Communicator::Exchange alone: a
// rank that cannot load NCCL is a reason to do without.
absl::StatusOr<NcclForAll> LoadNcclForAll(Communicator& communicator, const SumFacts& facts, const NcclLoader& load);

// Reducers over the group, which outlives them; `ops` gives each its own. `sizes`: what a job does not ask for, of
// which the sizes of buckets and of what is summed whole are taken.
DeviceReducerFactory OverNccl(nccl::NcclGroup* group,
                              std::function<absl::StatusOr<std::unique_ptr<nccl::ReduceOps>>()> ops,
                              const nccl::ReducerOptions& sizes = {});

}  // namespace lockstep
