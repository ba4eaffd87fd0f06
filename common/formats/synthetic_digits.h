// SPDX-License-Identifier: Apache-2.0
// Drawn digits in MNIST's format: data for a first run and for tests, made without a network.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace lockstep {

inline constexpr int kDigitSide = 28;

struct SyntheticDigit {
  uint8_t label = 0;
  // Row by row; 0 is the background.
  std::array<uint8_t, kDigitSide * kDigitSide> pixels{};
};

// Sample `index` of the endless sequence that `seed` chooses: strokes of the digit, rotated, sheared,
// scaled, moved and bent at random, of random thickness, with noise. A function of its arguments.
SyntheticDigit DrawDigit(uint64_t seed, uint64_t index);

// Writes MNIST's four files, uncompressed, into `folder`, which is made where it is missing. Training
// samples are those from 0 on, test samples those from 2^32 on. Each count is 1 to 10,000,000.
absl::Status WriteSyntheticDigits(const std::string& folder, int64_t train, int64_t test, uint64_t seed);

}  // namespace lockstep
