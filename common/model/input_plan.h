// SPDX-License-Identifier: Apache-2.0
// How many batches a rank makes ready ahead of the step, and what it holds of a set that stays in its files.
#pragma once

#include <cstdint>

#include "common/model/job_plan.h"

namespace lockstep {

// Rows of the pieces in which held-out samples are evaluated; part of the definition of the result's bits.
inline constexpr int64_t kEvaluationRows = 256;
inline constexpr int32_t kDefaultPrefetchBatches = 4;

struct InputPlan {
  // Slots of the rings, each for one shard's batch or one piece of the held-out samples. One is in use, the
  // others are made ready.
  int64_t train_slots = 2;
  int64_t test_slots = 2;
  // Bytes of data a rank holds with these slots, labels and buffers included; counted only for a set with a limit.
  int64_t bytes = 0;
};

// What prefetch_batches asks for, for a rank with so many shards of each batch.
InputPlan PlanInput(const lockstep::v1::JobSpec& spec, const DatasetInfo& dataset, int32_t logical_shards,
                    int64_t owned_shards);
// The same with fewer slots where a limit demands it, for a group that was made smaller than the spec's. Two of
// each are always left.
InputPlan FitInput(const lockstep::v1::JobSpec& spec, const DatasetInfo& dataset, int32_t logical_shards,
                   int64_t owned_shards);

// Bytes of one slot, which starts with the features, and where in it the targets begin.
struct SlotBytes {
  int64_t targets_at = 0;
  int64_t all = 0;
};
SlotBytes BytesOfSlot(int64_t rows, int64_t sample_elements, int64_t target_width);

}  // namespace lockstep
