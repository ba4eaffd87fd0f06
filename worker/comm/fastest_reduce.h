// SPDX-License-Identifier: Apache-2.0
// The sum for jobs that do not want the promise of the same bits: each rank adds its shards in turn, and the
// communicator's library adds the ranks' sums in its own order.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/comm/aligned.h"
#include "worker/comm/communicator.h"
#include "worker/comm/reducer.h"
#include "worker/comm/sum.h"

namespace lockstep {

class FastestReducer final : public Reducer {
 public:
  // `communicator` outlives the reducer. `elements` floats per gradient and `scalars` doubles. Nothing is allocated
  // later, but for what the library takes.
  FastestReducer(Communicator* communicator, int shards, int64_t elements, int scalars);

  std::span<float> shard_gradient() override;
  std::span<double> shard_scalars() override;
  void CommitShard() override;
  absl::Status Finish() override;
  std::span<float> sum() override { return {sum_.get(), static_cast<size_t>(elements_)}; }
  std::span<const double> scalar_sums() const override { return scalar_sums_; }
  std::optional<bool> finite() const override { return adds_ ? std::optional(finite_) : std::nullopt; }

 private:
  Communicator* communicator_;
  const SumKernels* kernels_;
  const int64_t elements_;
  // There is more than one shard.
  const bool adds_;
  AlignedArray<float> sum_;
  // The newest shard, where it is not the rank's first; null where a rank has one.
  AlignedArray<float> shard_;
  std::vector<double> scalar_sums_, shard_scalars_;
  // Of this step.
  int committed_ = 0;
  bool finite_ = true;
};

}  // namespace lockstep
