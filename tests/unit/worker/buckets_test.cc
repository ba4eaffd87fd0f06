// SPDX-License-Identifier: Apache-2.0
#include "worker/comm/buckets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

std::vector<std::string> Words(const std::vector<Bucket>& buckets) {
  std::vector<std::string> words;
  for (const Bucket& b : buckets) words.push_back(absl::StrCat(b.range.first, "-", b.range.end(), " after ", b.layer));
  return words;
}

TEST(BucketsTest, PaddingMakesEqualSlicesOfWholeLines) {
  EXPECT_EQ(PaddedElements(1, 1), 16);
  EXPECT_EQ(PaddedElements(16, 1), 16);
  EXPECT_EQ(PaddedElements(100, 3), 144);
}

TEST(BucketsTest, TheLastLayersComeFirst) {
  const std::vector<GradientSpan> spans{{0, 1000, 0}, {1008, 1000, 1}, {2016, 500, 2}, {2528, 500, 3}};
  EXPECT_THAT(Words(PlanBuckets(spans, 3040, {.elements = 1000, .first_elements = 400, .ranks = 1})),
              ::testing::ElementsAre("2528-3040 after 3", "1008-2528 after 1", "0-1008 after 0"));
  // Boundaries of four slices of 16: the few elements before one go with the layer before.
  EXPECT_THAT(Words(PlanBuckets(spans, 3040, {.elements = 1000, .first_elements = 400, .ranks = 4})),
              ::testing::ElementsAre("2560-3072 after 3", "1024-2560 after 1", "0-1024 after 0"));
}

TEST(BucketsTest, WhatIsWrittenLateWaitsAlone) {
  // Moving statistics of the layers 1 and 3 lie behind all others.
  const std::vector<GradientSpan> spans{{0, 1024, 0},   {1024, 16, 1}, {1040, 1024, 2}, {2064, 16, 3},
                                        {2080, 960, 4}, {3040, 16, 1}, {3056, 16, 3}};
  EXPECT_THAT(Words(PlanBuckets(spans, 3072, {.elements = 900, .first_elements = 900, .ranks = 1})),
              ::testing::ElementsAre("2080-3040 after 4", "1040-2080 after 2", "3040-3072 after 1", "0-1040 after 0"));
}

TEST(BucketsTest, WithoutSpansAllIsOne) {
  EXPECT_THAT(Words(PlanBuckets({}, 100, {.ranks = 2})), ::testing::ElementsAre("0-128 after 0"));
}

// Whatever the layers: every element once, no bucket before its last layer, the same slices on each rank.
TEST(BucketsTest, HoldsForRandomModels) {
  std::mt19937 random(5);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int round = 0; round < 300; ++round) {
    std::vector<GradientSpan> spans;
    int64_t at = 0;
    for (int i = 0, n = 1 + below(30); i < n; ++i) {
      const int64_t elements = 1 + below(below(4) == 0 ? 3000 : 40);
      spans.push_back({at, elements, below(5) == 0 ? below(30) : i});
      at = (at + elements + 15) / 16 * 16;
    }
    const BucketOptions options{.elements = 1 + below(4000), .first_elements = 1 + below(1000), .ranks = 1 + below(8)};
    const std::vector<Bucket> buckets = PlanBuckets(spans, at, options);
    std::vector<int> covered(static_cast<size_t>(PaddedElements(at, options.ranks)), 0);
    int layer = 1 << 30;
    for (const Bucket& bucket : buckets) {
      EXPECT_LE(bucket.layer, layer);
      layer = bucket.layer;
      EXPECT_GT(bucket.range.count, 0);
      EXPECT_EQ(bucket.range.first % (16 * options.ranks), 0);
      EXPECT_EQ(bucket.range.count % (16 * options.ranks), 0);
      for (int64_t i = bucket.range.first; i < bucket.range.end(); ++i) ++covered[static_cast<size_t>(i)];
      for (const GradientSpan& span : spans) {
        const bool inside = span.offset < bucket.range.end() && bucket.range.first < span.offset + span.elements;
        EXPECT_TRUE(!inside || span.layer >= bucket.layer);
      }
    }
    EXPECT_TRUE(std::ranges::all_of(covered, [](int n) { return n == 1; }));
  }
}

}  // namespace
}  // namespace lockstep
