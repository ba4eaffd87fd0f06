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
#include "worker/comm/tree_plan.h"

namespace lockstep {

// Gradients of more floats than this are summed slice by slice, one a rank, which then hand them out; each rank sums
// all of a smaller one by itself, which costs more additions and two waits less. Measured on two cores of a Zen 4,
// until all ranks have all: 0.25 MB 75 us in slices against 32 us, 1 MB 64 us against 64 us.
inline constexpr int64_t kWholeSumElements = 128 * 1024;

// Plans and buffers for one length; made once, allocates nothing later. Not thread-safe. After an error of any call
// only the destructor may follow.
class TreeReducer {
 public:
  // `communicator` outlives the reducer; size() <= shards. `elements` floats per gradient, and
  // `scalars` doubles (losses, counts, flags) that ride along and are added in the same tree. Every rank makes the
  // same reducers in the same order; errors as of Communicator::MakeWindow.
  static absl::StatusOr<std::unique_ptr<TreeReducer>> Create(Communicator* communicator, int shards, int64_t elements,
                                                             int scalars);
  ~TreeReducer();

  // Where the gradient of the next owned shard is to be written: `elements` floats on a 64-byte
  // boundary, and `scalars` doubles (zeroed). Shards are produced in order, OwnedShards(rank) first
  // to last; call CommitShard after each. The memory is one that the host's ranks share: nothing is copied.
  std::span<float> shard_gradient();
  std::span<double> shard_scalars();
  // Adds the shard into this rank's subtrees.
  void CommitShard();

  // After the last owned shard: sums over all ranks. The spans hold the sums until the next step, and may be
  // changed: no other rank sees it.
  absl::Status Finish();

  // The same in two parts, for who can do with a part of the sum: all scalars, but of the gradient slice() alone. The
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

  std::span<float> sum();
  std::span<const double> scalar_sums() const;
  // No infinity or NaN is in the gradient's sum, on any rank; the same everywhere. Nothing: there was nothing to be
  // added (one rank and one shard), so nobody has looked.
  std::optional<bool> finite() const;

 private:
  class Impl;
  explicit TreeReducer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep
