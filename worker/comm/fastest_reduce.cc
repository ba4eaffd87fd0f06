// SPDX-License-Identifier: Apache-2.0
#include "worker/comm/fastest_reduce.h"

#include <algorithm>

#include "common/status_macros.h"
#include "worker/comm/tree_plan.h"

namespace lockstep {

FastestReducer::FastestReducer(Communicator* communicator, int shards, int64_t elements, int scalars)
    : communicator_(communicator),
      kernels_(&ChooseSum()),
      elements_(elements),
      adds_(shards > 1),
      sum_(MakeAligned<float>(static_cast<size_t>(elements))),
      scalar_sums_(static_cast<size_t>(scalars)),
      shard_scalars_(static_cast<size_t>(scalars)) {
  const ShardRange owned = OwnedShards(communicator->rank(), communicator->size(), shards);
  if (owned.end - owned.first > 1) shard_ = MakeAligned<float>(static_cast<size_t>(elements));
}

std::span<float> FastestReducer::shard_gradient() {
  return {committed_ == 0 ? sum_.get() : shard_.get(), static_cast<size_t>(elements_)};
}

std::span<double> FastestReducer::shard_scalars() { return shard_scalars_; }

void FastestReducer::CommitShard() {
  if (committed_ > 0) finite_ = kernels_->add(sum_.get(), shard_.get(), sum_.get(), elements_);
  for (size_t i = 0; i < scalar_sums_.size(); ++i) {
    scalar_sums_[i] = committed_ == 0 ? shard_scalars_[i] : scalar_sums_[i] + shard_scalars_[i];
  }
  std::ranges::fill(shard_scalars_, 0.0);
  ++committed_;
}

absl::Status FastestReducer::Finish() {
  committed_ = 0;
  if (communicator_->size() == 1) return absl::OkStatus();
  LOCKSTEP_RETURN_IF_ERROR(communicator_->AllReduce(sum(), scalar_sums_));
  finite_ = kernels_->finite(sum_.get(), elements_);
  return absl::OkStatus();
}

}  // namespace lockstep
