// SPDX-License-Identifier: Apache-2.0
#include "worker/comm/tree_reduce.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <thread>

#include "common/rng.h"

namespace lockstep {
namespace {

std::vector<float> ShardGradient(int shard, int64_t n) {
  const RngStream stream{7, RngPurpose::kInit, static_cast<uint64_t>(shard)};
  std::vector<float> g(n);
  // Widely different magnitudes, so that another order of summation gives other bits.
  for (int64_t i = 0; i < n; ++i) g[i] = (stream.Uniform(i) - 0.5f) * static_cast<float>(1 << (shard % 13));
  return g;
}

// The definition, written recursively.
float TreeSum(const std::vector<std::vector<float>>& shards, int level, int index, int64_t i) {
  if (level == 0) return shards[index][i];
  return TreeSum(shards, level - 1, 2 * index, i) + TreeSum(shards, level - 1, 2 * index + 1, i);
}

struct Result {
  std::vector<float> sum;
  std::vector<double> scalars;
};

std::vector<Result> Reduce(int ranks, int shards, int64_t elements, int steps) {
  auto group = MakeThreadGroup(ranks);
  std::vector<Result> results(ranks);
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      TreeReducer reducer(group[r].get(), shards, elements, 2);
      for (int step = 0; step < steps; ++step) {
        const ShardRange owned = OwnedShards(r, ranks, shards);
        for (int shard = owned.first; shard < owned.end; ++shard) {
          const std::vector<float> g = ShardGradient(shard + step, elements);
          std::ranges::copy(g, reducer.shard_gradient().begin());
          reducer.shard_scalars()[0] += 0.1 * (shard + 1);
          reducer.shard_scalars()[1] += 1;
          reducer.CommitShard();
        }
        ASSERT_TRUE(reducer.Finish().ok());
      }
      results[r].sum.assign(reducer.sum().begin(), reducer.sum().end());
      results[r].scalars.assign(reducer.scalar_sums().begin(), reducer.scalar_sums().end());
    });
  }
  for (std::thread& t : threads) t.join();
  return results;
}

TEST(DecomposeTest, GivesTheFewestAlignedSubtrees) {
  EXPECT_EQ(Decompose({0, 8}), (std::vector<TreeNode>{{3, 0}}));
  EXPECT_EQ(Decompose({2, 4}), (std::vector<TreeNode>{{1, 1}}));
  EXPECT_EQ(Decompose({1, 6}), (std::vector<TreeNode>{{0, 1}, {1, 1}, {1, 2}}));
  EXPECT_TRUE(Decompose({3, 3}).empty());
}

TEST(OwnedShardsTest, CoversEveryShardOnce) {
  for (int shards : {1, 2, 4, 8, 64}) {
    for (int size = 1; size <= shards; ++size) {
      int next = 0;
      for (int rank = 0; rank < size; ++rank) {
        const ShardRange range = OwnedShards(rank, size, shards);
        EXPECT_EQ(range.first, next);
        EXPECT_GT(range.end, range.first);
        next = range.end;
      }
      EXPECT_EQ(next, shards);
    }
  }
}

TEST(TreeReducerTest, EveryNumberOfRanksGivesTheBitsOfTheDefinition) {
  for (int shards : {1, 2, 4, 8, 16}) {
    for (int64_t elements : {1, 5, 16, 100, 1003}) {
      std::vector<std::vector<float>> all;
      for (int s = 0; s < shards; ++s) all.push_back(ShardGradient(s + 1, elements));
      std::vector<float> expected(elements);
      for (int64_t i = 0; i < elements; ++i) expected[i] = TreeSum(all, std::countr_zero(unsigned(shards)), 0, i);
      std::vector<double> scalars;
      for (int ranks = 1; ranks <= std::min(shards, 7); ++ranks) {
        const std::vector<Result> results = Reduce(ranks, shards, elements, 2);
        for (const Result& result : results) {
          ASSERT_EQ(std::memcmp(result.sum.data(), expected.data(), elements * sizeof(float)), 0)
              << ranks << " ranks, " << shards << " shards, " << elements << " elements";
          ASSERT_EQ(result.scalars[1], shards);
          if (scalars.empty()) scalars = result.scalars;
          ASSERT_EQ(std::memcmp(result.scalars.data(), scalars.data(), sizeof(double) * 2), 0);
        }
      }
    }
  }
}

TEST(ThreadGroupTest, AbortEndsAWaitingExchange) {
  auto group = MakeThreadGroup(2);
  std::thread waiter([&] {
    std::byte b{};
    const Message receive{1, {&b, 1}};
    EXPECT_EQ(group[0]->Exchange({}, {&receive, 1}).code(), absl::StatusCode::kAborted);
  });
  group[0]->Abort();
  waiter.join();
}

TEST(ThreadGroupTest, ASilentPeerEndsInADeadline) {
  auto group = MakeThreadGroup(2);
  group[0]->set_timeout(std::chrono::milliseconds(20));
  std::byte b{};
  const Message receive{1, {&b, 1}};
  EXPECT_EQ(group[0]->Exchange({}, {&receive, 1}).code(), absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace lockstep
