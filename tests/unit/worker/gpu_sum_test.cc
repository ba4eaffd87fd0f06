// SPDX-License-Identifier: Apache-2.0
#include "worker/train/gpu_sum.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "tests/unit/worker/nccl/borrowed_ops.h"
#include "tests/unit/worker/nccl/fake_nccl.h"

namespace lockstep {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr SumFacts kFour{.on_gpus = true, .ranks = 4, .shards = 64};

TEST(ChooseSumTest, GpusOfTheirOwnSumOverNccl) {
  const SumChoice choice = ChooseSum(kFour);
  EXPECT_TRUE(choice.nccl);
  EXPECT_EQ(choice.why_staged, "");
}

TEST(ChooseSumTest, WhereNothingTravelsBetweenGpusThereIsNothingToSay) {
  for (const SumFacts& facts :
       {SumFacts{.ranks = 4, .shards = 64}, SumFacts{.on_gpus = true, .ranks = 1, .shards = 64, .shared = false}}) {
    EXPECT_FALSE(ChooseSum(facts).nccl);
    EXPECT_EQ(ChooseSum(facts).why_staged, "");
  }
}

TEST(ChooseSumTest, SharedGpusAndTooManySubtreesGoThroughTheHost) {
  SumFacts facts = kFour;
  facts.shared = true;
  EXPECT_FALSE(ChooseSum(facts).nccl);
  EXPECT_THAT(ChooseSum(facts).why_staged, HasSubstr("share a GPU"));
  EXPECT_TRUE(ChooseSum({.on_gpus = true, .ranks = 256, .shards = 1024}).nccl);
  const SumChoice many = ChooseSum({.on_gpus = true, .ranks = 257, .shards = 1024});
  EXPECT_FALSE(many.nccl);
  EXPECT_THAT(many.why_staged, HasSubstr("257 ranks"));
}

// What each of four ranks comes to, where `load` is asked with the rank's number.
std::vector<NcclForAll> LoadOnFour(const SumFacts& facts,
                                   const std::function<absl::StatusOr<const nccl::NcclApi*>(int rank)>& load) {
  auto group = MakeThreadGroup(4);
  std::vector<NcclForAll> found(4);
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < 4; ++rank) {
    threads.emplace_back([&, rank] {
      auto all = LoadNcclForAll(*group[rank], facts, [&] { return load(static_cast<int>(rank)); });
      EXPECT_TRUE(all.ok()) << all.status();
      if (all.ok()) found[rank] = *all;
    });
  }
  for (std::thread& thread : threads) thread.join();
  return found;
}

TEST(LoadNcclForAllTest, AllHaveItOrNobody) {
  const nccl::NcclApi api{};
  for (const NcclForAll& all : LoadOnFour(kFour, [&](int) { return &api; })) {
    EXPECT_EQ(all.api, &api);
    EXPECT_EQ(all.why_staged, "");
  }
  const auto found = LoadOnFour(kFour, [&](int rank) -> absl::StatusOr<const nccl::NcclApi*> {
    if (rank == 2) return absl::NotFoundError("libnccl.so.2 was found nowhere");
    return &api;
  });
  for (size_t rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(found[rank].api, nullptr);
    EXPECT_THAT(found[rank].why_staged, HasSubstr(rank == 2 ? "libnccl.so.2" : "another rank"));
  }
}

TEST(LoadNcclForAllTest, IsNotLoadedWhereItIsNotWanted) {
  SumFacts facts = kFour;
  facts.shared = true;
  std::atomic<int> loads = 0;
  const auto count = [&](int) -> absl::StatusOr<const nccl::NcclApi*> {
    ++loads;
    return absl::InternalError("");
  };
  for (const NcclForAll& all : LoadOnFour(facts, count)) EXPECT_THAT(all.why_staged, HasSubstr("share a GPU"));
  for (const NcclForAll& all : LoadOnFour({.ranks = 4, .shards = 64}, count)) EXPECT_EQ(all.why_staged, "");
  EXPECT_EQ(loads, 0);
}

TEST(OverNcclTest, MakesReducersOfWhatIsNeeded) {
  nccl::FakeGpus gpus(1);
  gpus.plays_when_asked = true;
  const FakeClock clock;
  auto group =
      nccl::NcclGroup::Join(&nccl::FakeGpus::Api(), *nccl::NcclGroup::MakeId(nccl::FakeGpus::Api()), {.clock = &clock});
  ASSERT_TRUE(group.ok()) << group.status();
  const DeviceReducerFactory factory =
      OverNccl(group->get(), [&]() -> absl::StatusOr<std::unique_ptr<nccl::ReduceOps>> {
        return std::make_unique<nccl::BorrowedOps>(gpus.ops(0));
      });
  auto made = factory({.shards = 4, .elements = 100, .scalars = 2});
  ASSERT_TRUE(made.ok()) << made.status();
  for (int shard = 0; shard < 4; ++shard) {
    const std::span<float> gradient = (*made)->shard_gradient();
    ASSERT_EQ(gradient.size(), 100u);
    gpus.Enqueue(0, nccl::Lane::kCompute, "backward", [=] { std::ranges::fill(gradient, 1.0F); });
    (*made)->shard_scalars()[1] = shard;
    (*made)->CommitShard();
  }
  ASSERT_TRUE((*made)->Finish().ok());
  EXPECT_THAT((*made)->sum(), Each(4.0F));
  EXPECT_THAT((*made)->scalar_sums(), ElementsAre(0, 6));
}

TEST(OverNcclTest, WhatBackwardIsThroughWithTravelsAtOnce) {
  nccl::FakeGpus gpus(2);
  const FakeClock clock;
  auto group = nccl::NcclGroup::Join(&nccl::FakeGpus::Api(), *nccl::NcclGroup::MakeId(nccl::FakeGpus::Api()),
                                     {.rank = 0, .size = 2, .clock = &clock});
  ASSERT_TRUE(group.ok()) << group.status();
  const auto ops = [&]() -> absl::StatusOr<std::unique_ptr<nccl::ReduceOps>> {
    return std::make_unique<nccl::BorrowedOps>(gpus.ops(0));
  };
  const DeviceReducerFactory factory =
      OverNccl(group->get(), ops, {.buckets = {.elements = 64, .first_elements = 64}, .whole_sum_elements = 0});
  auto made = factory({.shards = 2, .elements = 128, .scalars = 1, .spans = {{0, 64, 0}, {64, 64, 1}}});
  ASSERT_TRUE(made.ok()) << made.status();
  const std::unique_ptr<GradientSum> sum = GradientSum::Overlapped(std::move(*made));
  const auto sends = [&] {
    return std::ranges::count_if(gpus.log(0), [](const std::string& text) { return text.starts_with("send"); });
  };
  sum->shard_gradient();
  ASSERT_NE(sum->watcher(), nullptr);
  sum->watcher()->LayersDone(1);
  EXPECT_EQ(sends(), 1);
  // The last bucket goes with the scalars.
  sum->watcher()->LayersDone(0);
  EXPECT_EQ(sends(), 1);
  sum->Commit();
  EXPECT_EQ(sends(), 2);
}

TEST(OverNcclTest, AGpuThatFailsIsToldOfOnTheWay) {
  const DeviceReducerFactory factory = OverNccl(nullptr, []() -> absl::StatusOr<std::unique_ptr<nccl::ReduceOps>> {
    return absl::InternalError("the GPU failed in cudaEventCreate");
  });
  EXPECT_THAT(std::string(factory({.elements = 1}).status().message()), HasSubstr("cudaEventCreate"));
}

}  // namespace
}  // namespace lockstep
