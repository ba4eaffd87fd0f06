// SPDX-License-Identifier: Apache-2.0
#include "common/permutation.h"

#include <bit>

#include "common/rng.h"

namespace lockstep {

namespace {
constexpr uint64_t kRounds = 6;
// Tables of that many bits stay in the cache, and are made in less time than a few batches take.
constexpr int kLargestTableBits = 12;
// Below it they would cost more than they bring.
constexpr uint64_t kFewestSamples = 64;
}  // namespace

Permutation::Permutation(uint64_t n, uint64_t seed, uint64_t epoch) : n_(n), seed_(seed), epoch_(epoch) {
  const int bits = n <= 2 ? 2 : std::bit_width(n - 1);
  half_bits_ = (bits + 1) / 2;
  half_mask_ = (uint64_t{1} << half_bits_) - 1;
  if (half_bits_ > kLargestTableBits || n < kFewestSamples) return;
  mixed_.reserve(kRounds << half_bits_);
  for (uint64_t round = 0; round < kRounds; ++round) {
    for (uint64_t half = 0; half <= half_mask_; ++half) mixed_.push_back(static_cast<uint16_t>(Mix(round, half)));
  }
}

uint64_t Permutation::Mix(uint64_t round, uint64_t half) const {
  return RngStream{seed_, RngPurpose::kShuffle, epoch_}.Block((round << 56) ^ half).v[0] & half_mask_;
}

uint64_t Permutation::Encrypt(uint64_t value) const {
  uint64_t left = value >> half_bits_;
  uint64_t right = value & half_mask_;
  const uint16_t* table = mixed_.empty() ? nullptr : mixed_.data();
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t mixed = table != nullptr ? table[(round << half_bits_) + right] : Mix(round, right);
    const uint64_t next = left ^ mixed;
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
