// SPDX-License-Identifier: Apache-2.0
#include "common/permutation.h"

#include <bit>

#include "common/rng.h"

namespace lockstep {

namespace {
constexpr int kRounds = 6;
}  // namespace

Permutation::Permutation(uint64_t n, uint64_t seed, uint64_t epoch) : n_(n), seed_(seed), epoch_(epoch) {
  const int bits = n <= 2 ? 2 : std::bit_width(n - 1);
  half_bits_ = (bits + 1) / 2;
  half_mask_ = (uint64_t{1} << half_bits_) - 1;
}

uint64_t Permutation::Encrypt(uint64_t value) const {
  const RngStream stream{seed_, RngPurpose::kShuffle, epoch_};
  uint64_t left = value >> half_bits_;
  uint64_t right = value & half_mask_;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t mixed = stream.Block((round << 56) ^ right).v[0];
    const uint64_t next = left ^ (mixed & half_mask_);
    left = right;
    right = next;
  }
  return (left << half_bits_) | right;
}

uint64_t Permutation::operator()(uint64_t position) const {
  uint64_t value = position;
  do {
    value = Encrypt(value);
  } while (value >= n_);
  return value;
}

}  // namespace lockstep
