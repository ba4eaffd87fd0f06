// SPDX-License-Identifier: Apache-2.0
#include "common/pattern.h"

#include <gtest/gtest.h>

#include <string>

namespace lockstep {
namespace {

TEST(PatternTest, FitsTheWholeName) {
  EXPECT_TRUE(MatchesPattern("dense/bias", "dense/bias"));
  EXPECT_TRUE(MatchesPattern("dense/bias", "*/bias"));
  EXPECT_TRUE(MatchesPattern("dense/bias", "*bias*"));
  EXPECT_TRUE(MatchesPattern("dense/bias", "*"));
  EXPECT_TRUE(MatchesPattern("dense_1/bias", "dense_?/b*s"));
  EXPECT_TRUE(MatchesPattern("", "**"));
  EXPECT_TRUE(MatchesPattern("aab", "*ab"));
  EXPECT_FALSE(MatchesPattern("dense/bias", "bias"));
  EXPECT_FALSE(MatchesPattern("dense/bias", "*/bia"));
  EXPECT_FALSE(MatchesPattern("dense/bias", "dense/bias?"));
  EXPECT_FALSE(MatchesPattern("dense/bias", ""));
  EXPECT_FALSE(MatchesPattern("", "?"));
}

// Backtracking to the newest star alone keeps the work at the product of the lengths.
TEST(PatternTest, HostilePatternsAreNotSlow) {
  std::string pattern;
  for (int i = 0; i < 100; ++i) pattern += "*a";
  EXPECT_FALSE(MatchesPattern(std::string(10'000, 'a') + "b", pattern + "c"));
}

}  // namespace
}  // namespace lockstep
