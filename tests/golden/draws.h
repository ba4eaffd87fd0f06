// SPDX-License-Identifier: Apache-2.0
// The numbers of draws.py.
#pragma once

#include <cstdint>

namespace lockstep {

inline uint32_t DrawWord(uint32_t stream, uint32_t i) {
  uint32_t h = i + 0x9E3779B9u * stream;
  h ^= h >> 16;
  h *= 0x7FEB352Du;
  h ^= h >> 15;
  h *= 0x846CA68Bu;
  return h ^ (h >> 16);
}

// In [-1, 1).
inline double Draw(uint32_t stream, uint32_t i) {
  return static_cast<double>(DrawWord(stream, i) >> 8) / 8388608.0 - 1.0;
}

}  // namespace lockstep
