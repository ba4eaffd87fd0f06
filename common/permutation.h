// SPDX-License-Identifier: Apache-2.0
// The order of the samples as a function: a keyed permutation of [0, n), O(1) in time and memory.
#pragma once

#include <cstdint>
#include <vector>

#include "common/rng.h"

namespace lockstep {

// The arithmetic of Permutation, for host and device code.
struct FeistelNetwork {
  static constexpr uint64_t kRounds = 6;

  uint64_t n = 1;
  uint64_t seed = 0;
  uint64_t epoch = 0;
  int half_bits = 1;

  LOCKSTEP_HOST_DEVICE uint64_t half_mask() const { return (uint64_t{1} << half_bits) - 1; }
  // The round function.
  LOCKSTEP_HOST_DEVICE uint64_t Mix(uint64_t round, uint64_t half) const {
    return RngStream{seed, RngPurpose::kShuffle, epoch}.Block((round << 56) ^ half).v[0] & half_mask();
  }
  // Where `position` goes. mix(round, half): as Mix.
  template <typename F>
  LOCKSTEP_HOST_DEVICE uint64_t Walk(uint64_t position, const F& mix) const {
    uint64_t value = position;
    do {
      uint64_t left = value >> half_bits, right = value & half_mask();
      for (uint64_t round = 0; round < kRounds; ++round) {
        const uint64_t next = left ^ mix(round, right);
        left = right;
        right = next;
      }
      value = (left << half_bits) | right;
    } while (value >= n);
    return value;
  }
  struct Mixer {
    const FeistelNetwork& network;
    LOCKSTEP_HOST_DEVICE uint64_t operator()(uint64_t round, uint64_t half) const { return network.Mix(round, half); }
  };
  LOCKSTEP_HOST_DEVICE uint64_t operator()(uint64_t position) const { return Walk(position, Mixer{*this}); }
  // The smallest one that holds [0, n).
  static FeistelNetwork For(uint64_t n, uint64_t seed, uint64_t epoch);
};

// A Feistel network over the smallest even number of bits that holds n, with Philox as the round
// function, walked until the value falls below n (at most four rounds of walking on average).
// Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002.
class Permutation {
 public:
  // n >= 1. `seed` and `epoch` choose the permutation. Up to a few million samples the round function's values
  // are worked out here, once; at most 48 KiB.
  Permutation(uint64_t n, uint64_t seed, uint64_t epoch);

  // The sample at `position`, which must be below n. Thread-safe.
  uint64_t operator()(uint64_t position) const;

  // The same without the table.
  const FeistelNetwork& network() const { return network_; }

 private:
  FeistelNetwork network_;
  // Mix of each round and half; empty where that is too much.
  std::vector<uint16_t> mixed_;
};

}  // namespace lockstep
