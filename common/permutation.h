// SPDX-License-Identifier: Apache-2.0
// The order of the samples as a function: a keyed permutation of [0, n), O(1) in time and memory.
#pragma once

#include <cstdint>
#include <vector>

namespace lockstep {

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

 private:
  uint64_t Mix(uint64_t round, uint64_t half) const;
  uint64_t Encrypt(uint64_t value) const;

  uint64_t n_;
  uint64_t seed_;
  uint64_t epoch_;
  int half_bits_;
  uint64_t half_mask_;
  // Mix of each round and half; empty where that is too much.
  std::vector<uint16_t> mixed_;
};

}  // namespace lockstep
