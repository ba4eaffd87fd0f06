// SPDX-License-Identifier: Apache-2.0
#include "worker/train/step_plan.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

TEST(StepPlanTest, EveryPositionOfAnEpochIsInExactlyOneShardOfOneStep) {
  for (int64_t samples : {1, 7, 100, 129}) {
    for (int64_t batch : {1, 8, 32}) {
      for (int shards : {1, 2, 8}) {
        const StepPlan plan(samples, batch, shards);
        std::vector<int> seen(samples);
        for (int64_t step = 0; step < plan.steps_per_epoch(); ++step) {
          const StepPlace place = plan.At(step);
          EXPECT_EQ(place.epoch, 0);
          EXPECT_EQ(place.ends_epoch, step + 1 == plan.steps_per_epoch());
          for (int shard = 0; shard < shards; ++shard) {
            const RowRange rows = plan.ShardRows(place.rows, shard);
            EXPECT_LE(rows.size(), plan.max_shard_rows());
            for (int64_t row = rows.first; row < rows.end; ++row) ++seen[place.first_position + row];
          }
        }
        for (int count : seen) EXPECT_EQ(count, 1);
        EXPECT_EQ(plan.At(plan.steps_per_epoch()).epoch, 1);
      }
    }
  }
}

TEST(StepPlanTest, TheLastStepOfAnEpochHasTheRest) {
  const StepPlan plan(100, 32, 4);
  EXPECT_EQ(plan.steps_per_epoch(), 4);
  EXPECT_EQ(plan.At(3).rows, 4);
  EXPECT_EQ(plan.At(2).rows, 32);
}

}  // namespace
}  // namespace lockstep
