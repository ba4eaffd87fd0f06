// SPDX-License-Identifier: Apache-2.0
#include "common/permutation.h"

#include <bit>

namespace lockstep {

namespace {
// Tables of that many bits stay in the cache, and are made in less time than a few batches take.
constexpr int kLargestTableBits = 12;
// Below it they would cost more than they bring.
constexpr uint64_t kFewestSamples = 64;
}  // namespace

FeistelNetwork FeistelNetwork::For(uint64_t n, uint64_t seed, uint64_t epoch) {
  const int bits = n <= 2 ? 2 : std::bit_width(n - 1);
  return {.n = n, .seed = seed, .epoch = epoch, .half_bits = (bits + 1) / 2};
}

Permutation::Permutation(uint64_t n, uint64_t seed, uint64_t epoch) : network_(FeistelNetwork::For(n, seed, epoch)) {
  if (network_.half_bits > kLargestTableBits || n < kFewestSamples) return;
  mixed_.reserve(FeistelNetwork::kRounds << network_.half_bits);
  for (uint64_t round = 0; round < FeistelNetwork::kRounds; ++round) {
    for (uint64_t half = 0; half <= network_.half_mask(); ++half) {
      mixed_.push_back(static_cast<uint16_t>(network_.Mix(round, half)));
    }
  }
}

uint64_t Permutation::operator()(uint64_t position) const {
  if (mixed_.empty()) return network_(position);
  const uint16_t* const table = mixed_.data();
  const int half_bits = network_.half_bits;
  return network_.Walk(position, [table, half_bits](uint64_t round, uint64_t half) -> uint64_t {
    return table[(round << half_bits) + half];
  });
}

}  // namespace lockstep
