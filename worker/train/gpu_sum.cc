// SPDX-License-Identifier: Apache-2.0
#include "worker/train/gpu_sum.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/comm/nccl/gpu_reducer.h"
#include "worker/comm/tree_plan.h"
#include "worker/train/choose_device.h"

namespace lockstep {

namespace {

// Of all ranks together.
size_t Subtrees(int ranks, int shards) {
  size_t subtrees = 0;
  for (int rank = 0; rank < ranks; ++rank) subtrees += Decompose(OwnedShards(rank, ranks, shards)).size();
  return subtrees;
}

}  // namespace

SumChoice ChooseSum(const SumFacts& facts) {
  if (!facts.on_gpus || facts.ranks == 1) return {};
  if (facts.shared) return {false, "ranks share a GPU, which NCCL does not allow"};
  const size_t subtrees = Subtrees(facts.ranks, facts.shards);
  if (subtrees > nccl::kMaxLeaves) {
    return {false, absl::StrCat(facts.ranks, " ranks hold ", subtrees, " subtrees of ", facts.shards,
                                " shards, and one sum on a GPU takes ", nccl::kMaxLeaves,
                                " at most; a number of workers that is a power of two has the fewest")};
  }
  return {true, ""};
}

absl::StatusOr<NcclForAll> LoadNcclForAll(Communicator& communicator, const SumFacts& facts, const NcclLoader& load) {
  const SumChoice choice = ChooseSum(facts);
  if (!choice.nccl) return NcclForAll{nullptr, choice.why_staged};
  const absl::StatusOr<const nccl::NcclApi*> api = load();
  LOCKSTEP_ASSIGN_OR_RETURN(const bool all, AllSay(communicator, api.ok()));
  if (all) return NcclForAll{*api, ""};
  return NcclForAll{nullptr, api.ok() ? "another rank cannot load NCCL" : std::string(api.status().message())};
}

DeviceReducerFactory OverNccl(nccl::NcclGroup* group,
                              std::function<absl::StatusOr<std::unique_ptr<nccl::ReduceOps>>()> ops,
                              const nccl::ReducerOptions& sizes) {
  return [group, ops = std::move(ops), sizes](const ReducerNeeds& needs) -> absl::StatusOr<std::unique_ptr<Reducer>> {
    LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<nccl::ReduceOps> own, ops());
    return nccl::GpuReducer::Create(group, std::move(own),
                                    {.shards = needs.shards,
                                     .elements = needs.elements,
                                     .scalars = needs.scalars,
                                     .spans = needs.spans,
                                     .buckets = sizes.buckets,
                                     .fastest = needs.fastest,
                                     .whole_sum_elements = sizes.whole_sum_elements});
  };
}

}  // namespace lockstep
