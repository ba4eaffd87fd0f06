// SPDX-License-Identifier: Apache-2.0
#include "worker/comm/tree_reduce.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/rng.h"
#include "worker/comm/aligned.h"

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

// How the sum reaches all ranks: at once, or as slices that are handed out.
enum class Way { kFinish, kGather };

std::vector<Result> Reduce(int ranks, int shards, int64_t elements, int steps, int ranks_per_host = 0,
                           Way way = Way::kFinish) {
  auto group = MakeThreadGroup(ranks, ranks_per_host);
  std::vector<Result> results(ranks);
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      auto made = TreeReducer::Create(group[r].get(), shards, elements, 2);
      ASSERT_TRUE(made.ok()) << made.status();
      TreeReducer& reducer = **made;
      for (int step = 0; step < steps; ++step) {
        const ShardRange owned = OwnedShards(r, ranks, shards);
        for (int shard = owned.first; shard < owned.end; ++shard) {
          const std::vector<float> g = ShardGradient(shard + step, elements);
          std::ranges::copy(g, reducer.shard_gradient().begin());
          reducer.shard_scalars()[0] += 0.1 * (shard + 1);
          reducer.shard_scalars()[1] += 1;
          reducer.CommitShard();
        }
        std::vector<float> own(elements);
        if (way == Way::kFinish) {
          ASSERT_TRUE(reducer.Finish().ok());
          std::ranges::copy(reducer.sum(), own.begin());
          // No other rank sees what becomes of it.
          std::ranges::fill(reducer.sum(), -1.0F);
        } else {
          ASSERT_TRUE(reducer.FinishSlice().ok());
          const ElementRange slice = reducer.slice();
          std::ranges::copy(reducer.sum().subspan(slice.first, slice.count), own.begin() + slice.first);
          ASSERT_TRUE(reducer.Gather(own).ok());
        }
        ASSERT_EQ(reducer.finite(), shards == 1 ? std::nullopt : std::optional(true));
        results[r].sum = own;
      }
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

// The sum after `steps` steps of Reduce.
std::vector<float> Expected(int shards, int64_t elements, int steps) {
  std::vector<std::vector<float>> all;
  for (int s = 0; s < shards; ++s) all.push_back(ShardGradient(s + steps - 1, elements));
  std::vector<float> expected(elements);
  for (int64_t i = 0; i < elements; ++i) expected[i] = TreeSum(all, std::countr_zero(unsigned(shards)), 0, i);
  return expected;
}

void ExpectSums(const std::vector<Result>& results, const std::vector<float>& expected, int shards,
                std::vector<double>& scalars) {
  for (const Result& result : results) {
    ASSERT_EQ(result.sum.size(), expected.size());
    ASSERT_EQ(std::memcmp(result.sum.data(), expected.data(), expected.size() * sizeof(float)), 0);
    ASSERT_EQ(result.scalars[1], shards);
    if (scalars.empty()) scalars = result.scalars;
    ASSERT_EQ(std::memcmp(result.scalars.data(), scalars.data(), sizeof(double) * 2), 0);
  }
}

TEST(TreeReducerTest, EveryNumberOfRanksGivesTheBitsOfTheDefinition) {
  for (int shards : {1, 2, 4, 8, 16}) {
    for (int64_t elements : {1, 5, 16, 100, 1003}) {
      const std::vector<float> expected = Expected(shards, elements, 2);
      std::vector<double> scalars;
      for (int ranks = 1; ranks <= std::min(shards, 7); ++ranks) {
        SCOPED_TRACE(absl::StrCat(ranks, " ranks, ", shards, " shards, ", elements, " elements"));
        ExpectSums(Reduce(ranks, shards, elements, 2), expected, shards, scalars);
      }
    }
  }
}

TEST(TreeReducerTest, ASumInSlicesHasTheSameBits) {
  const int64_t elements = kWholeSumElements + 1003;
  for (int shards : {1, 2, 4, 8}) {
    const std::vector<float> expected = Expected(shards, elements, 3);
    std::vector<double> scalars;
    for (int ranks : {1, 2, 3, 4, 7}) {
      if (ranks > shards) continue;
      for (const Way way : {Way::kFinish, Way::kGather}) {
        SCOPED_TRACE(absl::StrCat(ranks, " ranks, ", shards, " shards"));
        ExpectSums(Reduce(ranks, shards, elements, 3, 0, way), expected, shards, scalars);
      }
    }
  }
}

TEST(TreeReducerTest, AnyNumberOfHostsGivesTheSameBits) {
  struct Group {
    int ranks, per_host;
  };
  for (const int64_t elements : {int64_t{1}, int64_t{100}, int64_t{1003}, kWholeSumElements + 17}) {
    for (const int shards : {4, 8}) {
      const std::vector<float> expected = Expected(shards, elements, 3);
      std::vector<double> scalars;
      for (const Group& group : {Group{4, 4}, Group{4, 2}, Group{4, 1}, Group{3, 2}}) {
        for (const Way way : {Way::kFinish, Way::kGather}) {
          SCOPED_TRACE(absl::StrCat(group.ranks, " ranks, ", group.per_host, " a host, ", elements, " elements"));
          ExpectSums(Reduce(group.ranks, shards, elements, 3, group.per_host, way), expected, shards, scalars);
        }
      }
    }
  }
}

TEST(TreeReducerTest, EveryRankHearsOfANumberThatIsNotFinite) {
  for (const int per_host : {4, 2, 1}) {
    for (const int64_t elements : {int64_t{1}, int64_t{1000}, kWholeSumElements + 17}) {
      auto group = MakeThreadGroup(4, per_host);
      std::vector<std::thread> threads;
      for (int r = 0; r < 4; ++r) {
        threads.emplace_back([&, r] {
          auto reducer = TreeReducer::Create(group[r].get(), 4, elements, 0);
          ASSERT_TRUE(reducer.ok());
          // Two numbers that are finite, but not their sum; a NaN; and nothing again.
          const float odd[] = {r < 2 ? std::numeric_limits<float>::max() : 0, r == 3 ? NAN : 1, 1};
          for (int step = 0; step < 3; ++step) {
            const std::span<float> gradient = (*reducer)->shard_gradient();
            std::ranges::fill(gradient, 1.0F);
            gradient[(elements - 1) * step / 2] = odd[step];
            (*reducer)->CommitShard();
            ASSERT_TRUE((*reducer)->FinishSlice().ok());
            EXPECT_EQ((*reducer)->finite(), step == 2) << elements << " elements, step " << step;
          }
        });
      }
      for (std::thread& t : threads) t.join();
    }
  }
}

// Rank 0 of two waits for a peer that never comes.
absl::Status AwaitNobody(int64_t elements, std::chrono::milliseconds timeout, bool abort) {
  auto group = MakeThreadGroup(2);
  group[0]->set_timeout(timeout);
  absl::Status status;
  std::atomic<bool> waits{false};
  std::thread peer([&] { EXPECT_TRUE(TreeReducer::Create(group[1].get(), 2, elements, 0).ok()); });
  std::thread waiter([&] {
    auto reducer = TreeReducer::Create(group[0].get(), 2, elements, 0);
    ASSERT_TRUE(reducer.ok());
    (*reducer)->shard_gradient();
    (*reducer)->CommitShard();
    waits = true;
    status = (*reducer)->Finish();
  });
  peer.join();
  while (!waits) std::this_thread::yield();
  if (abort) group[0]->Abort();
  waiter.join();
  return status;
}

TEST(TreeReducerTest, AbortEndsAWaitForTheHost) {
  for (const int64_t elements : {int64_t{100}, kWholeSumElements + 1}) {
    EXPECT_EQ(AwaitNobody(elements, std::chrono::minutes(1), true).code(), absl::StatusCode::kAborted);
  }
}

TEST(TreeReducerTest, ASilentPeerOfTheHostEndsInADeadlineThatNamesIt) {
  for (const int64_t elements : {int64_t{100}, kWholeSumElements + 1}) {
    const absl::Status status = AwaitNobody(elements, std::chrono::milliseconds(20), false);
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), testing::EndsWith("rank(s) 1"));
  }
}

TEST(HostWindowTest, BeginsOnAPairOfCacheLines) {
  const auto single = MakeSingleCommunicator();
  const auto group = MakeThreadGroup(1);
  for (int i = 1; i < 40; ++i) {
    for (Communicator* const communicator : {single.get(), group[0].get()}) {
      const HostWindow window = communicator->MakeWindow(static_cast<size_t>(i)).value();
      EXPECT_EQ(reinterpret_cast<uintptr_t>(window.parts.front().data()) % kLinePair, 0u) << i << " bytes";
    }
  }
}

TEST(ThreadGroupTest, APeerThatTakesNoMemoryEndsInADeadline) {
  auto group = MakeThreadGroup(2);
  group[0]->set_timeout(std::chrono::milliseconds(20));
  EXPECT_EQ(group[0]->MakeWindow(64).status().code(), absl::StatusCode::kDeadlineExceeded);
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
