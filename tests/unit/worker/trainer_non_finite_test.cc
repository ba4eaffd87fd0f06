// SPDX-License-Identifier: Apache-2.0
// A job that fails because of a number that is not finite says where it began.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/worker/trainer_fixture.h"
#include "worker/train/failure.h"
#include "worker/train/non_finite.h"

namespace lockstep {
namespace {

using testing::HasSubstr;
using NonFiniteTest = TrainerTest;

v1::JobSpec With(const std::string& json) {
  v1::JobSpec spec = BlobSpec();
  spec.clear_optimizer();
  v1::JobSpec more;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(json, &more).ok()) << json;
  spec.MergeFrom(more);
  return spec;
}

// The text without the rank, which is the one thing that may differ between numbers of ranks.
std::string WithoutRank(const std::string& text) {
  const size_t at = text.find(" on rank ");
  return at == std::string::npos ? text : text.substr(0, at) + text.substr(at + 10);
}

TEST_F(NonFiniteTest, ABadSampleIsNamedWithStepShardAndRank) {
  std::string text;
  for (const int ranks : {1, 2, 4}) {
    const Outcome run = Train(ranks, std::to_string(ranks), {.poisoned = true});
    EXPECT_TRUE(IsPermanent(run.status));
    ASSERT_FALSE(run.failures.empty());
    for (const std::string& failure : run.failures) EXPECT_EQ(failure, run.failures[0]);
    EXPECT_THAT(run.failures[0], HasSubstr("first in the samples of shard "));
    EXPECT_THAT(run.failures[0], HasSubstr(" on rank "));
    if (text.empty()) text = WithoutRank(run.failures[0]);
    EXPECT_EQ(WithoutRank(run.failures[0]), text);
  }
}

// The first update makes weights whose products are infinite.
TEST_F(NonFiniteTest, ALayerIsNamed) {
  const Outcome run = Train(2, "diverges", {.spec = With(R"({"optimizer": {"sgd": {"learning_rate": 1e30}}})")});
  ASSERT_FALSE(run.failures.empty());
  EXPECT_THAT(run.failures[0], HasSubstr("in step 1 (epoch 1), first in the output of dense_1 of shard 0 on rank 0"));
  EXPECT_THAT(run.failures[0], HasSubstr("lower the learning rate"));
}

TEST_F(NonFiniteTest, AllRanksTakeTheFirstPlaceAndOfThatTheLowestShard) {
  auto group = MakeThreadGroup(3);
  const NonFiniteRecord found[] = {
      {.place = 7, .shard = 0, .rank = 0}, {.place = 4, .shard = 3, .rank = 1}, {.place = 4, .shard = 2, .rank = 2}};
  NonFiniteRecord agreed[3];
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 3; ++rank) {
    threads.emplace_back([&, rank] { agreed[rank] = FirstOfAll(*group[rank], found[rank]).value(); });
  }
  for (std::thread& t : threads) t.join();
  for (const NonFiniteRecord& record : agreed) {
    EXPECT_EQ(record.place, 4);
    EXPECT_EQ(record.shard, 2);
    EXPECT_EQ(record.rank, 2);
  }
}

}  // namespace
}  // namespace lockstep
