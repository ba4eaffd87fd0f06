// SPDX-License-Identifier: Apache-2.0
#include "worker/comm/tree_plan.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "worker/comm/aligned.h"

namespace lockstep {

namespace {

// Floats: of four arrays at once they fill half of a first-level cache.
constexpr int64_t kBlock = 1024;
constexpr int64_t kLine = kCacheLine / sizeof(float);

}  // namespace

ShardRange OwnedShards(int rank, int size, int shards) {
  const auto bound = [&](int64_t r) { return static_cast<int>(r * shards / size); };
  return {bound(rank), bound(rank + 1)};
}

std::vector<TreeNode> Decompose(ShardRange range) {
  std::vector<TreeNode> nodes;
  int first = range.first;
  while (first < range.end) {
    int level = first == 0 ? 30 : std::countr_zero(static_cast<unsigned>(first));
    while ((int64_t{first} + (int64_t{1} << level)) > range.end) --level;
    nodes.push_back({level, first >> level});
    first += 1 << level;
  }
  return nodes;
}

bool Siblings(const TreeNode& left, const TreeNode& right) {
  return left.level == right.level && left.index % 2 == 0 && right.index == left.index + 1;
}

ElementRange SliceOf(int rank, int size, int64_t elements) {
  const int64_t lines = (elements + kLine - 1) / kLine;
  const int64_t first = std::min(elements, lines * rank / size * kLine);
  const int64_t end = std::min(elements, lines * (rank + 1) / size * kLine);
  return {first, end - first};
}

TreeSum::TreeSum(const std::vector<TreeNode>& nodes) : kernels_(&ChooseSum()), leaves_(static_cast<int>(nodes.size())) {
  struct Value {
    TreeNode node;
    int place;
  };
  std::vector<Value> stack;
  int next = leaves_;
  for (int i = 0; i < leaves_; ++i) {
    stack.push_back({nodes[static_cast<size_t>(i)], i});
    while (stack.size() >= 2 && Siblings(stack[stack.size() - 2].node, stack.back().node)) {
      const Value right = stack.back();
      stack.pop_back();
      additions_.push_back({stack.back().place, right.place, next});
      stack.back() = {{right.node.level + 1, right.node.index / 2}, next++};
    }
  }
  four_ = leaves_ == 4 && std::ranges::all_of(nodes, [&](const TreeNode& n) { return n.level == nodes[0].level; });
  scalar_scratch_.reserve(nodes.size() + additions_.size());
  if (additions_.size() > 1) scratch_.resize((additions_.size() - 1) * kBlock);
}

bool TreeSum::Run(std::span<const float* const> leaves, float* out, int64_t count) {
  if (leaves_ == 1) {
    if (leaves[0] != out && count > 0) std::memcpy(out, leaves[0], static_cast<size_t>(count) * sizeof(float));
    return true;
  }
  if (leaves_ == 2) return kernels_->add(leaves[0], leaves[1], out, count);
  if (four_) return kernels_->add4(leaves[0], leaves[1], leaves[2], leaves[3], out, count);
  bool finite = true;
  for (int64_t at = 0; at < count; at += kBlock) {
    const int64_t n = std::min(kBlock, count - at);
    const auto value = [&](int place) {
      return place < leaves_ ? leaves[static_cast<size_t>(place)] + at : &scratch_[(place - leaves_) * size_t{kBlock}];
    };
    for (const Addition& a : additions_) {
      const bool last = &a == &additions_.back();
      float* to = last ? out + at : &scratch_[(a.to - leaves_) * size_t{kBlock}];
      const bool good = kernels_->add(value(a.left), value(a.right), to, n);
      if (last) finite = finite && good;
    }
  }
  return finite;
}

void TreeSum::RunScalars(std::span<const double* const> leaves, double* out, size_t count) {
  if (leaves_ <= 2) {
    for (size_t i = 0; i < count; ++i) out[i] = leaves_ == 1 ? leaves[0][i] : leaves[0][i] + leaves[1][i];
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    scalar_scratch_.clear();
    for (const double* leaf : leaves) scalar_scratch_.push_back(leaf[i]);
    for (const Addition& a : additions_) {
      scalar_scratch_.push_back(scalar_scratch_[static_cast<size_t>(a.left)] +
                                scalar_scratch_[static_cast<size_t>(a.right)]);
    }
    out[i] = scalar_scratch_.back();
  }
}

}  // namespace lockstep
