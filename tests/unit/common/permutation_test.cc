// SPDX-License-Identifier: Apache-2.0
#include "common/permutation.h"

#include <gtest/gtest.h>

#include <bit>
#include <utility>
#include <vector>

#include "common/rng.h"

namespace lockstep {
namespace {

TEST(PermutationTest, VisitsEveryIndexOnce) {
  for (uint64_t n : {1, 2, 3, 4, 5, 10, 63, 64, 65, 1000, 60000}) {
    const Permutation order(n, 42, 3);
    std::vector<bool> seen(n);
    for (uint64_t i = 0; i < n; ++i) {
      const uint64_t sample = order(i);
      ASSERT_LT(sample, n);
      ASSERT_FALSE(seen[sample]) << n;
      seen[sample] = true;
    }
  }
}

TEST(PermutationTest, SeedAndEpochChooseTheOrder) {
  const uint64_t n = 1000;
  const auto same = [&](const Permutation& a, const Permutation& b) {
    int count = 0;
    for (uint64_t i = 0; i < n; ++i) count += a(i) == b(i);
    return count;
  };
  const Permutation a(n, 1, 0);
  EXPECT_EQ(same(a, Permutation(n, 1, 0)), 1000);
  // Two independent orders agree in about one place.
  EXPECT_LT(same(a, Permutation(n, 1, 1)), 10);
  EXPECT_LT(same(a, Permutation(n, 2, 0)), 10);
}

// Each value should land in each tenth of the order equally often.
TEST(PermutationTest, MixesWell) {
  const uint64_t n = 10;
  int counts[10][10] = {};
  for (uint64_t epoch = 0; epoch < 10000; ++epoch) {
    const Permutation order(n, 7, epoch);
    for (uint64_t i = 0; i < n; ++i) ++counts[i][order(i)];
  }
  // Expected 1000 each, standard deviation 30.
  for (const auto& row : counts) {
    for (int count : row) EXPECT_NEAR(count, 1000, 180);
  }
}

// The network by its definition; the class takes the round function from a table for up to 2^24 samples.
uint64_t Reference(uint64_t n, uint64_t seed, uint64_t epoch, uint64_t position) {
  const int half = (std::bit_width(n - 1) + 1) / 2;
  const uint64_t mask = (uint64_t{1} << half) - 1;
  const RngStream stream{seed, RngPurpose::kShuffle, epoch};
  uint64_t value = position;
  do {
    uint64_t left = value >> half, right = value & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      left ^= stream.Block((round << 56) ^ right).v[0] & mask;
      std::swap(left, right);
    }
    value = left << half | right;
  } while (value >= n);
  return value;
}

TEST(PermutationTest, IsTheNetworkWithAndWithoutATable) {
  for (const uint64_t n : {63u, 64u, 60'000u, 16'777'216u, 16'777'217u, 100'000'000u}) {
    const Permutation order(n, 42, 3);
    for (uint64_t i = 0; i < 1000; ++i) {
      const uint64_t position = i * (n / 1000) % n;
      ASSERT_EQ(order(position), Reference(n, 42, 3, position)) << n << ", " << position;
    }
  }
}

// Known answers published with Random123.
TEST(PhiloxTest, GivesThePublishedAnswers) {
  const PhiloxBlock zero = Philox(0, 0, 0);
  EXPECT_EQ(zero.v[0], 0x6627e8d5u);
  EXPECT_EQ(zero.v[1], 0xe169c58du);
  EXPECT_EQ(zero.v[2], 0xbc57ac4cu);
  EXPECT_EQ(zero.v[3], 0x9b00dbd8u);
  const PhiloxBlock ones = Philox(~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0});
  EXPECT_EQ(ones.v[0], 0x408f276du);
  EXPECT_EQ(ones.v[1], 0x41c83b0eu);
  EXPECT_EQ(ones.v[2], 0xa20bc7c6u);
  EXPECT_EQ(ones.v[3], 0x6d5451fdu);
  // Key and counter from the digits of pi.
  const PhiloxBlock pi = Philox(0x299f31d0a4093822ull, 0x85a308d3243f6a88ull, 0x0370734413198a2eull);
  EXPECT_EQ(pi.v[0], 0xd16cfe09u);
  EXPECT_EQ(pi.v[1], 0x94fdccebu);
  EXPECT_EQ(pi.v[2], 0x5001e420u);
  EXPECT_EQ(pi.v[3], 0x24126ea1u);
}

}  // namespace
}  // namespace lockstep
