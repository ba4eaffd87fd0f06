// SPDX-License-Identifier: Apache-2.0
// IDX, the format of MNIST: big-endian header 00 00 type rank, then a u32 for each axis, then the
// values, row-major. Plain or gzip, told apart by content. Only unsigned bytes (type 0x08) are read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/shape.h"

namespace lockstep {

struct IdxData {
  Shape shape;
  // shape.elements() bytes.
  std::vector<uint8_t> values;
};

// Most values a file may hold (4 GiB): a header that claims more is refused before memory is taken.
inline constexpr int64_t kMaxIdxValues = int64_t{1} << 32;

// Reads from an open file, whose position is moved; the caller keeps the descriptor. `name` is used in
// messages. Only the first bytes are read; where the file is not compressed its size is checked too.
absl::StatusOr<Shape> ReadIdxHeader(int fd, const std::string& name);
// The whole file. DATA_LOSS where it is truncated or has trailing bytes, INVALID_ARGUMENT where it is
// not IDX.
absl::StatusOr<IdxData> ReadIdx(int fd, const std::string& name);

// Writes a file, uncompressed. `values` has shape.elements() bytes.
absl::Status WriteIdx(const std::string& path, const Shape& shape, const std::vector<uint8_t>& values);

}  // namespace lockstep
