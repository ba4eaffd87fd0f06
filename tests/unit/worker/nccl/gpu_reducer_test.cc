// SPDX-License-Identifier: Apache-2.0
#include "worker/comm/nccl/gpu_reducer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "tests/unit/worker/nccl/borrowed_ops.h"
#include "tests/unit/worker/nccl/fake_nccl.h"

namespace lockstep::nccl {
namespace {

TEST(GpuReducerTest, TheHostWritesScalarsAndReadsTheirSums) {
  FakeGpus gpus(1);
  gpus.plays_when_asked = true;
  FakeClock clock;
  auto group = NcclGroup::Join(&FakeGpus::Api(), *NcclGroup::MakeId(FakeGpus::Api()), {.clock = &clock});
  ASSERT_TRUE(group.ok()) << group.status();
  for (NcclGroup* const of : {static_cast<NcclGroup*>(nullptr), group->get()}) {
    auto made = GpuReducer::Create(of, std::make_unique<BorrowedOps>(gpus.ops(0)),
                                   {.shards = 4, .elements = 100, .scalars = 2});
    ASSERT_TRUE(made.ok()) << made.status();
    GpuReducer& reducer = **made;
    for (int step = 0; step < 3; ++step) {
      for (int shard = 0; shard < 4; ++shard) {
        const std::span<float> gradient = reducer.shard_gradient();
        ASSERT_EQ(gradient.size(), 100u);
        const float value = step == 1 && shard == 2 ? std::numeric_limits<float>::infinity() : 1.0F;
        gpus.Enqueue(0, Lane::kCompute, "backward", [=] { std::ranges::fill(gradient, value); });
        // Zero at first, in each step.
        reducer.shard_scalars()[0] += shard + 1;
        reducer.shard_scalars()[1] += step;
        reducer.CommitShard();
      }
      ASSERT_TRUE(reducer.Finish().ok());
      EXPECT_THAT(reducer.scalar_sums(), ::testing::ElementsAre(10, 4 * step));
      EXPECT_EQ(reducer.finite(), std::optional(step != 1));
      if (step != 1) {
        EXPECT_THAT(reducer.sum(), ::testing::Each(4.0F));
      }
    }
  }
}

TEST(GpuReducerTest, NobodyLooksWhereNothingIsAdded) {
  FakeGpus gpus(1);
  gpus.plays_when_asked = true;
  auto reducer = *GpuReducer::Create(nullptr, std::make_unique<BorrowedOps>(gpus.ops(0)),
                                     {.shards = 1, .elements = 10, .scalars = 1});
  reducer->shard_scalars()[0] = 7;
  reducer->CommitShard();
  ASSERT_TRUE(reducer->Finish().ok());
  EXPECT_EQ(reducer->scalar_sums()[0], 7);
  EXPECT_EQ(reducer->finite(), std::nullopt);
}

// Finish tells it, though the call that met it has no status.
TEST(GpuReducerTest, APeersFailureEndsTheStep) {
  FakeGpus gpus(2);
  FakeClock clock;
  auto group = NcclGroup::Join(&FakeGpus::Api(), *NcclGroup::MakeId(FakeGpus::Api()),
                               {.rank = 0, .size = 2, .clock = &clock, .pause = [] {}});
  ASSERT_TRUE(group.ok());
  auto reducer = *GpuReducer::Create(group->get(), std::make_unique<BorrowedOps>(gpus.ops(0)),
                                     {.shards = 2, .elements = 10, .scalars = 1});
  gpus.async_error = kRemoteError;
  reducer->CommitShard();
  EXPECT_EQ(reducer->Finish().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(gpus.aborts, 1);
}

}  // namespace
}  // namespace lockstep::nccl
