// SPDX-License-Identifier: Apache-2.0
// Whether what a file says of itself may cost so much memory.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace lockstep {

// What is packed may unpack to kFreeUnpackedBytes, or to kMaxUnpackRatio times its packed size.
inline constexpr int64_t kFreeUnpackedBytes = int64_t{256} << 20;
inline constexpr int64_t kMaxUnpackRatio = 100;

inline bool IsBomb(int64_t packed, int64_t unpacked) {
  return unpacked > kFreeUnpackedBytes && unpacked / kMaxUnpackRatio > packed;
}

// RESOURCE_EXHAUSTED where so many bytes are more than this machine's memory; `name` is used in the message.
absl::Status CheckFitsMemory(int64_t bytes, const std::string& name);

}  // namespace lockstep
