// SPDX-License-Identifier: Apache-2.0
// Buckets: in which pieces, and in which order, gradients are reduced while backward goes on. Backward goes from the
// last layer to the first, so the last layers' gradients travel first.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/comm/tree_plan.h"

namespace lockstep {

// Where a parameter's gradient lies in the flat array, and which layer's backward writes it: the layer's index in the
// model's plan.
struct GradientSpan {
  int64_t offset = 0;
  int64_t elements = 0;
  int layer = 0;
};

struct Bucket {
  ElementRange range;
  // The range is complete once backward is done with this layer and all behind it.
  int layer = 0;
};

struct BucketOptions {
  // Of each but the first and the last; as few more as a parameter's end asks for.
  int64_t elements = 4 * 1024 * 1024;
  // Of the first one, so that something travels early.
  int64_t first_elements = 1024 * 1024;
  // Ranks that a bucket is cut into slices for. Each bucket is so many slices of whole cache lines, all of one size.
  int ranks = 1;
};

// The length of the flat array once it is padded so that buckets can be cut into equal slices.
int64_t PaddedElements(int64_t elements, int ranks);

// Buckets in the order in which they become complete; together they are [0, PaddedElements) once. `spans`: by rising
// offset, inside of [0, elements), with gaps that no layer writes.
std::vector<Bucket> PlanBuckets(std::span<const GradientSpan> spans, int64_t elements, const BucketOptions& options);

}  // namespace lockstep
