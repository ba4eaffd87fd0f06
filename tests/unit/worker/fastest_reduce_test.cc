// SPDX-License-Identifier: Apache-2.0
#include "worker/comm/fastest_reduce.h"

#include <gtest/gtest.h>

#include <limits>
#include <thread>
#include <vector>

#include "worker/comm/tree_plan.h"

namespace lockstep {
namespace {

// Whole numbers, whose sum is the same in any order.
float Value(int shard, int step, int64_t i) { return static_cast<float>((i * 7 + shard * 13 + step) % 1000); }

void ReduceSteps(Communicator& communicator, int shards, int64_t elements) {
  FastestReducer reducer(&communicator, shards, elements, 2);
  const ShardRange owned = OwnedShards(communicator.rank(), communicator.size(), shards);
  for (int step = 0; step < 3; ++step) {
    for (int shard = owned.first; shard < owned.end; ++shard) {
      const std::span<float> gradient = reducer.shard_gradient();
      ASSERT_EQ(gradient.size(), static_cast<size_t>(elements));
      for (int64_t i = 0; i < elements; ++i) gradient[i] = Value(shard, step, i);
      ASSERT_EQ(reducer.shard_scalars()[0], 0) << "of an earlier shard";
      reducer.shard_scalars()[0] += shard + 1;
      reducer.CommitShard();
    }
    ASSERT_TRUE(reducer.Finish().ok());
    for (int64_t i = 0; i < elements; ++i) {
      float expected = 0;
      for (int shard = 0; shard < shards; ++shard) expected += Value(shard, step, i);
      ASSERT_EQ(reducer.sum()[i], expected) << "element " << i << " of step " << step;
    }
    EXPECT_EQ(reducer.scalar_sums()[0], shards * (shards + 1) / 2);
    EXPECT_EQ(reducer.scalar_sums()[1], 0);
    EXPECT_EQ(reducer.finite(), shards == 1 ? std::nullopt : std::optional(true));
  }
}

template <typename Body>
void OnRanks(int ranks, const Body& body) {
  auto group = MakeThreadGroup(ranks);
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) threads.emplace_back([&, r] { body(*group[r]); });
  for (std::thread& t : threads) t.join();
}

TEST(FastestReducerTest, AddsAllShardsOfAllRanks) {
  for (const int shards : {1, 2, 8}) {
    for (int ranks = 1; ranks <= shards; ++ranks) {
      for (const int64_t elements : {1, 4099}) {
        OnRanks(ranks, [&](Communicator& communicator) { ReduceSteps(communicator, shards, elements); });
      }
    }
  }
}

TEST(FastestReducerTest, EveryRankHearsOfANumberThatIsNotFinite) {
  for (const int ranks : {1, 3}) {
    OnRanks(ranks, [&](Communicator& communicator) {
      FastestReducer reducer(&communicator, 4, 100, 0);
      const ShardRange owned = OwnedShards(communicator.rank(), communicator.size(), 4);
      for (int shard = owned.first; shard < owned.end; ++shard) {
        std::ranges::fill(reducer.shard_gradient(), 1.0F);
        if (shard == 2) reducer.shard_gradient()[99] = std::numeric_limits<float>::quiet_NaN();
        reducer.CommitShard();
      }
      ASSERT_TRUE(reducer.Finish().ok());
      EXPECT_EQ(reducer.finite(), false);
    });
  }
}

}  // namespace
}  // namespace lockstep
