// SPDX-License-Identifier: Apache-2.0
// Thousands of histories, each from one seed. LOCKSTEP_SIM_SEEDS and LOCKSTEP_SIM_FIRST choose which.
#include "tests/scenario/simulator.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <string>

namespace lockstep::sim {
namespace {

int64_t Number(const char* variable, int64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::atoll(text);
}

TEST(SimulatorTest, EveryHistoryKeepsThePromises) {
  const int64_t first = Number("LOCKSTEP_SIM_FIRST", 1);
  const int64_t seeds = Number("LOCKSTEP_SIM_SEEDS", 20'000);
  Counts counts;
  int failures = 0;
  for (int64_t seed = first; seed < first + seeds && failures < 3; ++seed) {
    const Result result = Simulate(static_cast<uint64_t>(seed));
    counts.Add(result.counts);
    if (result.failure.empty()) continue;
    ++failures;
    ADD_FAILURE() << "seed " << seed << ": " << result.failure << "\n"
                  << result.tail << "again with LOCKSTEP_SIM_FIRST=" << seed << " LOCKSTEP_SIM_SEEDS=1";
  }
  std::cout << seeds << " seeds from " << first << ": " << counts.ToString() << "\n";
  if (seeds < 1000) return;
  // None of this may become idle without anybody noticing.
  EXPECT_GT(counts.succeeded * 2, counts.jobs);
  EXPECT_GT(counts.failed, 0);
  EXPECT_GT(counts.cancelled, 0);
  EXPECT_GT(counts.launches, counts.jobs);
  for (const int64_t count :
       {counts.coordinator_deaths, counts.rank_kills, counts.hangs, counts.broken_streams, counts.shim_kills,
        counts.rollbacks, counts.drains, counts.signals, counts.corruptions, counts.damaged_files, counts.scales,
        counts.resumes, counts.voided_rows, counts.stopped_early}) {
    EXPECT_GT(count, seeds / 50) << counts.ToString();
  }
}

TEST(SimulatorTest, ASeedReplaysIdentically) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const Result once = Simulate(seed), again = Simulate(seed);
    EXPECT_EQ(once.hash, again.hash) << "seed " << seed;
    EXPECT_EQ(once.counts.events, again.counts.events) << "seed " << seed;
  }
  EXPECT_NE(Simulate(1).hash, Simulate(2).hash);
}

}  // namespace
}  // namespace lockstep::sim
