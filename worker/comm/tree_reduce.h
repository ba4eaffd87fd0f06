// SPDX-License-Identifier: Apache-2.0
// The canonical sum of V shard gradients: one binary tree over the shard index (tree_plan.h), whoever owns which
// shard; V is a power of two. The result has the same bits on every rank, for every number of ranks and of hosts.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"
#include "worker/comm/reducer.h"
#include "worker/comm/tree_plan.h"

namespace lockstep {

// Gradients of more floats than this are summed slice by slice, one a rank, which then hand them out; each rank sums
// all of a smaller one by itself, which costs more additions and two waits less. Measured on two cores of a Zen 4,
// until all ranks have all: 0.25 MB 75 us in slices against 32 us, 1 MB 64 us against 64 us.
inline constexpr int64_t kWholeSumElements = 128 * 1024;

// Plans and buffers for one length; made once, allocates nothing later.
class TreeReducer final : public Reducer {
 public:
  // `communicator` outlives the reducer; size() <= shards. `elements` floats per gradient, and
  // `scalars` doubles (losses, counts, flags) that ride along and are added in the same tree. Every rank makes the
  // same reducers in the same order; errors as of Communicator::MakeWindow.
  static absl::StatusOr<std::unique_ptr<TreeReducer>> Create(Communicator* communicator, int shards, int64_t elements,
                                                             int scalars);
  ~TreeReducer() override;

  // The memory is one that the host's ranks share: nothing is copied.
  std::span<float> shard_gradient() override;
  std::span<double> shard_scalars() override;
  // Adds the shard into this rank's subtrees.
  void CommitShard() override;
  absl::Status Finish() override;
  std::span<float> sum() override;
  std::span<const double> scalar_sums() const override;
  std::optional<bool> finite() const override;

  // Finish in two parts, for who can do with a part of the sum: all scalars, but of the gradient slice() alone. The
  // rest of sum() is undefined, unless slice() is all of it. The slice may be changed.
  absl::Status FinishSlice();
  // Then, where all ranks do so: `values`, as long as a gradient and correct inside of slice(), becomes correct
  // everywhere. `values` may be sum().
  absl::Status Gather(std::span<float> values);
  ElementRange slice() const;

  // Gather in steps, for who can do better than copy, where all ranks are on one host and slice() is not all. The
  // rank puts its part into sum(), inside of slice(); then Meet; then all peers' parts can be read until Taken.
  struct PeerSlice {
    ElementRange range;
    // Of a whole array, like sum().
    const float* values = nullptr;
  };
  std::span<const PeerSlice> peer_slices() const;
  // Waits for the host's ranks.
  absl::Status Meet();
  void Taken();

 private:
  class Impl;
  explicit TreeReducer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep
