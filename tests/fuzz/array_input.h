// SPDX-License-Identifier: Apache-2.0
// Reads an array to its end, as floats and as whole numbers.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "common/formats/array_reader.h"

namespace lockstep {

inline void ReadToTheEnd(int fd, const std::string& member) {
  for (const bool floats : {true, false}) {
    const auto reader = ArrayReader::Open(fd, "f", member);
    if (!reader.ok()) return;
    constexpr int64_t kPiece = 1000;
    std::vector<float> values(kPiece);
    std::vector<int32_t> numbers(kPiece);
    absl::Status status;
    for (int64_t left = (*reader)->header().shape.elements(); left > 0 && status.ok(); left -= kPiece) {
      const int64_t count = std::min(left, kPiece);
      status = floats ? (*reader)->ReadFloats(values.data(), count) : (*reader)->ReadInt32s(numbers.data(), count);
    }
    if (status.ok()) status = (*reader)->Finish();
  }
}

}  // namespace lockstep
