// SPDX-License-Identifier: Apache-2.0
// The canonical tree as data: who owns which shards, which subtrees a rank's shards make up, and in which order all
// of them are added. node(level, i) = node(level - 1, 2 i) + node(level - 1, 2 i + 1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "worker/comm/sum.h"

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
// The two are the children of one node.
bool Siblings(const TreeNode& left, const TreeNode& right);

// Elements [first, first + count) of a flat array.
struct ElementRange {
  int64_t first = 0;
  int64_t count = 0;
  int64_t end() const { return first + count; }
};
// Rank r's of n. Boundaries fall on cache lines of floats.
ElementRange SliceOf(int rank, int size, int64_t elements);

// The sum of subtrees that make up the whole tree, block by block, so that what lies between two additions stays in
// the nearest cache. Not thread-safe.
class TreeSum {
 public:
  // `nodes`: all of the tree's, left to right.
  explicit TreeSum(const std::vector<TreeNode>& nodes);

  // leaves[i]: where node i's `count` values lie. `out` may be any of them. False: an infinity or a NaN came out; a
  // single leaf is not looked at.
  bool Run(std::span<const float* const> leaves, float* out, int64_t count);
  // The same of doubles: few, so they go one by one.
  void RunScalars(std::span<const double* const> leaves, double* out, size_t count);

 private:
  // Values below leaves_ are leaves, the others are scratch, the last one is the result.
  struct Addition {
    int left, right, to;
  };
  const SumKernels* kernels_;
  int leaves_;
  std::vector<Addition> additions_;
  // A perfect tree of four.
  bool four_ = false;
  std::vector<float> scratch_;
  // A value for each leaf and each addition.
  std::vector<double> scalar_scratch_;
};

}  // namespace lockstep
