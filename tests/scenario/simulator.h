// SPDX-License-Identifier: Apache-2.0
// One seed, one history: jobs, people, worker groups, a coordinator that dies, a store, a network, and
// faults, all in virtual time. The same seed gives the same history.
#pragma once

#include <cstdint>
#include <string>

namespace lockstep::sim {

// What happened in one or many simulations; for showing that they are not idle.
struct Counts {
  int64_t jobs = 0;
  int64_t succeeded = 0;
  int64_t failed = 0;
  int64_t cancelled = 0;
  int64_t stopped_early = 0;
  int64_t launches = 0;
  int64_t coordinator_deaths = 0;
  int64_t rank_kills = 0;
  int64_t hangs = 0;
  int64_t broken_streams = 0;
  int64_t shim_kills = 0;
  int64_t rollbacks = 0;
  int64_t drains = 0;
  int64_t signals = 0;
  int64_t corruptions = 0;
  int64_t divergences = 0;
  int64_t damaged_files = 0;
  int64_t scales = 0;
  int64_t resumes = 0;
  int64_t voided_rows = 0;
  int64_t events = 0;

  void Add(const Counts& other);
  std::string ToString() const;
};

struct Result {
  // Empty: every promise was kept.
  std::string failure;
  // Of the whole transcript; its newest lines.
  uint64_t hash = 0;
  std::string tail;
  Counts counts;
};

Result Simulate(uint64_t seed);

}  // namespace lockstep::sim
