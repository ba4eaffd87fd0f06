// SPDX-License-Identifier: Apache-2.0
// The additions of the canonical sum for one element: single source for the kernel and for the host's tests. The same
// bits as TreeSum (tree_plan.h), since each addition has the same two operands.
#pragma once

#include <cstdint>

#include "worker/device/math/inline.h"

namespace lockstep::nccl {

// Subtrees that one call adds at most: 256 ranks of one each.
inline constexpr int kMaxLeaves = 256;
// Sums that wait for their right sibling at once: one a level of the tree.
inline constexpr int kMaxDepth = 32;

// Leaves are taken from the left to the right; after leaf i, merges[i] times the newest two sums become one.
struct TreeProgram {
  int leaves = 0;
  uint8_t merges[kMaxLeaves] = {};
};

// Floats that one thread of a GPU takes at once: the widest load.
struct alignas(16) Four {
  float values[4];
};
LOCKSTEP_MATH Four operator+(const Four& a, const Four& b) {
  return {{a.values[0] + b.values[0], a.values[1] + b.values[1], a.values[2] + b.values[2], a.values[3] + b.values[3]}};
}

// out[i] = the sum of leaves[j][i] over j. `out` may be any of the leaves. All on the device; floats lie on boundaries
// of 16 bytes, and there is a multiple of four of them.
template <typename T>
struct TreeAdd {
  TreeProgram program;
  const T* leaves[kMaxLeaves] = {};
  T* out = nullptr;
  int64_t count = 0;
  // Becomes 1 where an infinity or a NaN comes out, else stays as it is; null: nobody wants to know.
  double* not_finite = nullptr;
};

// `leaf(i)`: the value of leaf i.
template <typename T, typename Leaf>
LOCKSTEP_MATH T AddTree(const TreeProgram& program, const Leaf& leaf) {
  T sums[kMaxDepth];
  int depth = 0;
  for (int i = 0; i < program.leaves; ++i) {
    T value = leaf(i);
    for (int m = program.merges[i]; m > 0; --m) value = sums[--depth] + value;
    sums[depth++] = value;
  }
  return sums[0];
}

// A perfect tree of 2, 4, 8, ... leaves, which stay in registers.
template <int kLeaves, typename T, typename Leaf>
LOCKSTEP_MATH T AddPerfectTree(const Leaf& leaf) {
  T sums[kLeaves];
  for (int i = 0; i < kLeaves; ++i) sums[i] = leaf(i);
  for (int width = kLeaves / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) sums[i] = sums[2 * i] + sums[2 * i + 1];
  }
  return sums[0];
}

// Neither infinite nor NaN.
LOCKSTEP_MATH bool IsFiniteValue(float value) { return value - value == 0.0F; }
LOCKSTEP_MATH bool IsFiniteValue(double value) { return value - value == 0.0; }
LOCKSTEP_MATH bool IsFiniteValue(const Four& four) {
  return IsFiniteValue(four.values[0]) && IsFiniteValue(four.values[1]) && IsFiniteValue(four.values[2]) &&
         IsFiniteValue(four.values[3]);
}

}  // namespace lockstep::nccl
