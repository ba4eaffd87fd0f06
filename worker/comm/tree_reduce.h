// SPDX-License-Identifier: Apache-2.0
// The canonical sum of V shard gradients: one binary tree over the shard index, whoever owns which
// shard. node(level, i) = node(level - 1, 2 i) + node(level - 1, 2 i + 1); V is a power of two. The
// result has the same bits on every rank and for every number of ranks.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "worker/comm/communicator.h"

namespace lockstep {

// Shards [first, end) of rank r of n: r V / n to (r + 1) V / n.
struct ShardRange {
  int first = 0;
  int end = 0;
};
ShardRange OwnedShards(int rank, int size, int shards);

// A complete aligned subtree: shards [index << level, (index + 1) << level).
struct TreeNode {
  int level = 0;
  int index = 0;
  bool operator==(const TreeNode&) const = default;
};
// The fewest aligned subtrees that make up [first, end), left to right.
std::vector<TreeNode> Decompose(ShardRange range);

// Plans and buffers for one length; made once, allocates nothing later. Not thread-safe.
class TreeReducer {
 public:
  // `communicator` outlives the reducer; size() <= shards. `elements` floats per gradient, and
  // `scalars` doubles (losses, counts, flags) that ride along and are added in the same tree.
  TreeReducer(Communicator* communicator, int shards, int64_t elements, int scalars);
  ~TreeReducer();

  // Where the gradient of the next owned shard is to be written: `elements` floats on a 64-byte
  // boundary, and `scalars` doubles (zeroed). Shards are produced in order, OwnedShards(rank) first
  // to last; call Commit after each.
  std::span<float> shard_gradient();
  std::span<double> shard_scalars();
  // Adds the shard into this rank's subtrees.
  void CommitShard();
  // After the last owned shard: sums over all ranks. The spans hold the sums until the next step.
  absl::Status Finish();
  std::span<float> sum();
  std::span<const double> scalar_sums() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep
