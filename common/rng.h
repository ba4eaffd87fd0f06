// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10: a counter-based random generator. A draw is a function of (key, counter), so order,
// rank and device never change it. Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2,
// 3", SC 2011. Usable from host and device code.
#pragma once

#include <array>
#include <cstdint>

#ifdef __CUDACC__
#define LOCKSTEP_HOST_DEVICE __host__ __device__
// Before a template that calls what it is given, which may be a function of the host or of the device.
#define LOCKSTEP_CALLS_EITHER _Pragma("nv_exec_check_disable")
#else
#define LOCKSTEP_CALLS_EITHER
// Always inlined: a function that a translation unit with wider vector instructions left out of line
// could be picked by the linker for all, and then run on a machine without them.
#define LOCKSTEP_HOST_DEVICE __attribute__((always_inline))
#endif

namespace lockstep {

// What a draw is for; part of the key, so that two purposes never share a stream.
enum class RngPurpose : uint32_t { kInit = 1, kShuffle = 2, kDropout = 3, kSplit = 4, kSynthetic = 5, kAugment = 6 };

struct PhiloxBlock {
  uint32_t v[4];
};

inline constexpr int kPhiloxRounds = 10;
// What the key grows by from round to round.
inline constexpr uint32_t kPhiloxKeyStep0 = 0x9E3779B9u;
inline constexpr uint32_t kPhiloxKeyStep1 = 0xBB67AE85u;

// One round on the counter c3 c2 c1 c0.
LOCKSTEP_HOST_DEVICE inline void PhiloxRound(uint32_t k0, uint32_t k1, uint32_t& c0, uint32_t& c1, uint32_t& c2,
                                             uint32_t& c3) {
  const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0;
  const uint64_t p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
  const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
  const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
  c1 = static_cast<uint32_t>(p1);
  c3 = static_cast<uint32_t>(p0);
  c0 = n0;
  c2 = n2;
}

LOCKSTEP_HOST_DEVICE inline PhiloxBlock Philox(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  uint32_t c0 = static_cast<uint32_t>(counter_low), c1 = static_cast<uint32_t>(counter_low >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_high), c3 = static_cast<uint32_t>(counter_high >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    PhiloxRound(k0, k1, c0, c1, c2, c3);
    k0 += kPhiloxKeyStep0;
    k1 += kPhiloxKeyStep1;
  }
  return {{c0, c1, c2, c3}};
}

// A stream of draws: (seed, purpose) is the key, (stream, index) the counter. `stream` is, for
// example, a layer and a step packed by the caller.
struct RngStream {
  uint64_t seed = 0;
  RngPurpose purpose = RngPurpose::kInit;
  uint64_t stream = 0;

  // Four words for block `index`.
  LOCKSTEP_HOST_DEVICE PhiloxBlock Block(uint64_t index) const {
    return Philox(seed ^ (static_cast<uint64_t>(purpose) << 56), index, stream);
  }
  // Word `index` of the stream.
  LOCKSTEP_HOST_DEVICE uint32_t Word(uint64_t index) const { return Block(index >> 2).v[index & 3]; }
  // Uniform in [0, 1) with 24 bits.
  LOCKSTEP_HOST_DEVICE float Uniform(uint64_t index) const {
    return static_cast<float>(Word(index) >> 8) * (1.0f / 16777216.0f);
  }
};

}  // namespace lockstep
