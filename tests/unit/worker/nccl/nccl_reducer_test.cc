// SPDX-License-Identifier: Apache-2.0
// The reduction over GPUs, played on the host: what it enqueues, that every message meets its match, and that the bits
// are those of TreeReducer.
#include "worker/comm/nccl/nccl_reducer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "common/rng.h"
#include "tests/unit/worker/nccl/fake_nccl.h"
#include "worker/comm/tree_reduce.h"

namespace lockstep::nccl {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kScalars = 3;

// Of widely different sizes, so that another order of additions gives other bits.
float Value(int shard, int64_t i) {
  const RngStream stream{11, RngPurpose::kInit, static_cast<uint64_t>(shard)};
  return (stream.Uniform(static_cast<uint64_t>(i)) - 0.5F) * static_cast<float>(1 << (shard % 13));
}
double Scalar(int shard, int i) { return 0.1 * (shard + 1) + i * 1e9; }

struct Sums {
  std::vector<float> gradient;
  std::vector<double> scalars;
};

// What the CPU's reducer makes of it.
Sums Expected(int shards, int64_t elements) {
  const auto single = MakeSingleCommunicator();
  auto reducer = *TreeReducer::Create(single.get(), shards, elements, kScalars);
  for (int shard = 0; shard < shards; ++shard) {
    for (int64_t i = 0; i < elements; ++i) reducer->shard_gradient()[static_cast<size_t>(i)] = Value(shard, i);
    for (int i = 0; i < kScalars; ++i) reducer->shard_scalars()[static_cast<size_t>(i)] = Scalar(shard, i);
    reducer->CommitShard();
  }
  EXPECT_TRUE(reducer->Finish().ok());
  return {{reducer->sum().begin(), reducer->sum().end()},
          {reducer->scalar_sums().begin(), reducer->scalar_sums().end()}};
}

// Four layers of a quarter each.
std::vector<GradientSpan> Quarters(int64_t elements) {
  std::vector<GradientSpan> spans;
  for (int i = 0; i < 4; ++i) {
    const int64_t first = elements * i / 4 / 16 * 16, end = i == 3 ? elements : elements * (i + 1) / 4 / 16 * 16;
    spans.push_back({first, end - first, i});
  }
  return spans;
}

class Group {
 public:
  Group(int ranks, const ReducerOptions& options) : gpus(ranks), options_(options) {
    for (int r = 0; r < ranks; ++r) {
      groups.push_back(ranks == 1 ? nullptr
                                  : *NcclGroup::Join(&FakeGpus::Api(), *NcclGroup::MakeId(FakeGpus::Api()),
                                                     {.rank = r, .size = ranks, .clock = &clock_}));
      auto made = NcclReducer::Create(groups.back().get(), &gpus.ops(r), options);
      EXPECT_TRUE(made.ok()) << made.status();
      reducers.push_back(std::move(*made));
    }
  }
  ~Group() {
    reducers.clear();
    groups.clear();
  }

  // Backward writes a layer after the other, the last one first, and tells of each.
  void Backward(int rank, int shard, const std::vector<GradientSpan>& spans) {
    NcclReducer& reducer = *reducers[static_cast<size_t>(rank)];
    float* const gradient = reducer.shard_gradient();
    double* const scalars = reducer.shard_scalars();
    for (size_t layer = spans.size(); layer-- > 0;) {
      const GradientSpan span = spans[layer];
      gpus.Enqueue(rank, Lane::kCompute, absl::StrCat("layer ", layer, " of shard ", shard), [=, this] {
        for (int64_t i = span.offset; i < span.offset + span.elements; ++i) gradient[i] = value(shard, i);
      });
      reducer.LayerDone(static_cast<int>(layer));
    }
    gpus.Enqueue(rank, Lane::kCompute, "scalars", [=] {
      for (int i = 0; i < kScalars; ++i) scalars[i] = Scalar(shard, i);
    });
    ASSERT_TRUE(reducer.CommitShard().ok());
  }
  void Step() {
    const std::vector<GradientSpan> spans = Quarters(options_.elements);
    const int ranks = gpus.size();
    for (int r = 0; r < ranks; ++r) {
      const ShardRange owned = OwnedShards(r, ranks, options_.shards);
      for (int shard = owned.first; shard < owned.end; ++shard) Backward(r, shard, spans);
      ASSERT_TRUE(reducers[static_cast<size_t>(r)]->Finish().ok());
      const NcclReducer* reducer = reducers[static_cast<size_t>(r)].get();
      results.resize(static_cast<size_t>(ranks));
      flags.assign(static_cast<size_t>(ranks), -1);
      gpus.Enqueue(r, Lane::kCompute, "optimizer", [=, this] {
        const auto i = static_cast<size_t>(r);
        results[i].gradient.assign(reducer->sum(), reducer->sum() + options_.elements);
        results[i].scalars.assign(reducer->scalar_sums(), reducer->scalar_sums() + kScalars);
        if (reducer->not_finite() != nullptr) flags[i] = *reducer->not_finite();
      });
    }
  }

  FakeGpus gpus;
  FakeClock clock_;
  const ReducerOptions options_;
  std::vector<std::unique_ptr<NcclGroup>> groups;
  std::vector<std::unique_ptr<NcclReducer>> reducers;
  std::function<float(int shard, int64_t i)> value = Value;
  std::vector<Sums> results;
  std::vector<double> flags;
};

ReducerOptions Sliced(int shards, int64_t elements) {
  return {.shards = shards,
          .elements = elements,
          .scalars = kScalars,
          .spans = Quarters(elements),
          .buckets = {.elements = elements / 5, .first_elements = elements / 5},
          .whole_sum_elements = 0};
}

void ExpectBits(const Group& group, const Sums& expected) {
  for (const Sums& result : group.results) {
    ASSERT_EQ(result.gradient.size(), expected.gradient.size());
    EXPECT_EQ(std::memcmp(result.gradient.data(), expected.gradient.data(), result.gradient.size() * sizeof(float)), 0);
    EXPECT_EQ(result.scalars, expected.scalars);
  }
}

TEST(NcclReducerTest, TheBitsAreThoseOfTheCpuForEveryNumberOfRanks) {
  for (const int shards : {1, 2, 4, 8, 16}) {
    for (const int64_t elements : {int64_t{5}, int64_t{1003}}) {
      const Sums expected = Expected(shards, elements);
      for (int ranks = 1; ranks <= shards; ++ranks) {
        for (const bool whole : {false, true}) {
          ReducerOptions options = Sliced(shards, elements);
          if (whole) options.whole_sum_elements = elements;
          SCOPED_TRACE(absl::StrCat(ranks, " ranks, ", shards, " shards, ", elements, whole ? " whole" : " in slices"));
          Group group(ranks, options);
          // Nothing of a step is left in the next.
          group.Step();
          group.Step();
          const absl::Status played = group.gpus.Play();
          ASSERT_TRUE(played.ok()) << played;
          ExpectBits(group, expected);
          EXPECT_THAT(group.flags, ::testing::Each(shards == 1 ? -1.0 : 0.0));
        }
      }
    }
  }
}

TEST(NcclReducerTest, TheFastestSumIsTheSameButForRounding) {
  const Sums expected = Expected(8, 1003);
  for (const int ranks : {1, 2, 3, 8}) {
    ReducerOptions options = Sliced(8, 1003);
    options.fastest = true;
    Group group(ranks, options);
    group.Step();
    ASSERT_TRUE(group.gpus.Play().ok());
    for (const Sums& result : group.results) {
      EXPECT_EQ(result.scalars, expected.scalars);
      for (size_t i = 0; i < expected.gradient.size(); ++i) {
        ASSERT_NEAR(result.gradient[i], expected.gradient[i], 1e-3);
      }
    }
    EXPECT_EQ(group.reducers[0]->not_finite() == nullptr, ranks > 1);
    EXPECT_EQ(std::ranges::count_if(group.gpus.log(0), [](const std::string& text) { return text.starts_with("sum"); }),
              ranks > 1 ? static_cast<int>(group.reducers[0]->buckets().size()) : 0);
  }
}

TEST(NcclReducerTest, WhatIsNotFiniteInOneSliceIsKnownToAll) {
  for (const int ranks : {1, 2, 4}) {
    for (const bool whole : {false, true}) {
      ReducerOptions options = Sliced(4, 1003);
      if (whole) options.whole_sum_elements = 1003;
      Group group(ranks, options);
      group.value = [](int shard, int64_t i) {
        return shard == 1 && i == 900 ? std::numeric_limits<float>::infinity() : Value(shard, i);
      };
      group.Step();
      ASSERT_TRUE(group.gpus.Play().ok());
      EXPECT_THAT(group.flags, ::testing::Each(1.0));
      // The next step begins anew.
      group.value = Value;
      group.Step();
      ASSERT_TRUE(group.gpus.Play().ok());
      EXPECT_THAT(group.flags, ::testing::Each(0.0));
    }
  }
}

TEST(NcclReducerTest, BucketsTravelWhileBackwardGoesOn) {
  Group group(2, Sliced(2, 1024));
  group.Step();
  // Each bucket of a quarter: its slice to the other one, the sum of both, and the slices gathered; the scalars go with
  // the last one.
  EXPECT_THAT(
      group.gpus.log(0),
      ElementsAre("layer 3 of shard 0", "reduce waits", "zero",       //
                  "send 128 floats to 1, receive 128 floats from 1",  //
                  "reduce adds 2 x 128 floats", "gather 128 floats",  //
                  "layer 2 of shard 0", "reduce waits",               //
                  "send 128 floats to 1, receive 128 floats from 1",  //
                  "reduce adds 2 x 128 floats", "gather 128 floats",  //
                  "layer 1 of shard 0", "reduce waits",               //
                  "send 128 floats to 1, receive 128 floats from 1",  //
                  "reduce adds 2 x 128 floats", "gather 128 floats",  //
                  "layer 0 of shard 0", "scalars", "reduce waits",    //
                  "send 128 floats to 1, send 3 doubles to 1, receive 128 floats from 1, receive 3 doubles from 1",
                  "reduce adds 2 x 128 floats", "gather 128 floats, max 1 doubles",  //
                  "reduce adds 2 x 3 doubles",                                       //
                  "compute waits", "optimizer"));
  EXPECT_TRUE(group.gpus.Play().ok());
}

TEST(NcclReducerTest, OnlyTheLastShardOfARankTravels) {
  // Ranks of one, one and two shards: the last one's are merged first, bucket by bucket.
  ReducerOptions options = Sliced(4, 1003);
  options.buckets.elements = options.buckets.first_elements = 1 << 20;
  Group group(3, options);
  group.Step();
  EXPECT_THAT(
      group.gpus.log(2),
      ElementsAre("layer 3 of shard 2", "layer 2 of shard 2", "layer 1 of shard 2", "layer 0 of shard 2", "scalars",
                  "layer 3 of shard 3", "layer 2 of shard 3", "layer 1 of shard 3", "layer 0 of shard 3", "scalars",
                  "reduce waits", "zero", "reduce adds 2 x 1008 floats", "reduce adds 2 x 3 doubles",
                  "send 336 floats to 0, send 3 doubles to 0, receive 336 floats from 1, receive 3 doubles from 1, "
                  "send 336 floats to 1, send 3 doubles to 1, receive 336 floats from 0, receive 3 doubles from 0",
                  "reduce adds 3 x 336 floats", "gather 336 floats, max 1 doubles", "reduce adds 3 x 3 doubles",
                  "compute waits", "optimizer"));
  EXPECT_TRUE(group.gpus.Play().ok());
}

TEST(NcclReducerTest, ASmallGradientTakesOneExchange) {
  ReducerOptions options = Sliced(4, 1003);
  options.whole_sum_elements = 1003;
  Group group(4, options);
  group.Step();
  EXPECT_EQ(std::ranges::count_if(group.gpus.log(1), [](const std::string& text) { return text.starts_with("send"); }),
            1);
  EXPECT_THAT(group.gpus.log(1), Contains("reduce adds 4 x 1024 floats"));
  EXPECT_THAT(group.gpus.log(1), ::testing::Not(Contains(HasSubstr("gather"))));
  EXPECT_TRUE(group.gpus.Play().ok());
}

TEST(NcclReducerTest, AMissingRankIsAHang) {
  Group group(2, Sliced(2, 100));
  group.Backward(0, 0, Quarters(100));
  EXPECT_THAT(group.gpus.Play().message(), HasSubstr("rank 0 hangs at: send"));
}

TEST(NcclReducerTest, ShortMemoryIsAnError) {
  FakeGpus gpus(1);
  gpus.memory = 4000;
  const auto reducer = NcclReducer::Create(nullptr, &gpus.ops(0), Sliced(1, 1003));
  EXPECT_EQ(reducer.status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(NcclReducerTest, TooManySubtreesAreRefused) {
  FakeGpus gpus(300);
  FakeClock clock;
  auto group =
      NcclGroup::Join(&FakeGpus::Api(), *NcclGroup::MakeId(FakeGpus::Api()), {.rank = 0, .size = 300, .clock = &clock});
  ASSERT_TRUE(group.ok());
  const auto reducer = NcclReducer::Create(group->get(), &gpus.ops(0), Sliced(512, 100));
  EXPECT_EQ(reducer.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(reducer.status().message(), HasSubstr("power of two"));
}

// What the kernel does for few leaves is what the program says.
TEST(AddPerfectTreeTest, IsTheProgramsOrder) {
  const auto leaf = [](int i) { return Value(i, 7); };
  for (const int leaves : {2, 4, 8}) {
    TreeProgram program{.leaves = leaves};
    for (int i = 0; i < leaves; ++i) {
      for (int ones = i; ones % 2 != 0; ones /= 2) ++program.merges[i];
    }
    const auto by_program = AddTree<float>(program, leaf);
    const auto perfect = leaves == 2   ? AddPerfectTree<2, float>(leaf)
                         : leaves == 4 ? AddPerfectTree<4, float>(leaf)
                                       : AddPerfectTree<8, float>(leaf);
    EXPECT_EQ(std::memcmp(&by_program, &perfect, sizeof(float)), 0);
    const auto four = AddTree<Four>(program, [&](int i) { return Four{{leaf(i), 0, 1, leaf(i)}}; });
    EXPECT_EQ(std::memcmp(&four.values[3], &perfect, sizeof(float)), 0);
    EXPECT_EQ(four.values[2], static_cast<float>(leaves));
  }
}

}  // namespace
}  // namespace lockstep::nccl
