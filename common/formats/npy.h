// SPDX-License-Identifier: Apache-2.0
// NumPy's .npy, versions 1 to 3: a magic, a header in the form of a Python dictionary, then the values.
// Read are arrays in C order of little-endian numbers. Format: numpy.lib.format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "common/shape.h"

namespace lockstep {

enum class NpyType : uint8_t { kBool, kI8, kI16, kI32, kI64, kU8, kU16, kU32, kU64, kF32, kF64 };

size_t SizeOf(NpyType type);
// "float32".
const char* NameOf(NpyType type);
// Bool too.
bool IsInteger(NpyType type);

struct NpyHeader {
  NpyType dtype = NpyType::kU8;
  // Also its axes without the first have a product that does not overflow, whatever the first is.
  Shape shape;
  // Of the first value: from the start of the file, or of the .npz member.
  int64_t data_offset = 0;

  // Bytes of all values. With data_offset they never overflow.
  int64_t data_bytes() const { return shape.elements() * static_cast<int64_t>(SizeOf(dtype)); }
};

// Reads the header of an open file, whose position is neither used nor moved. `name` is used in
// messages. The file must be as long as the header promises: row i of [rows, ...] is at data_offset +
// i * data_bytes() / rows. INVALID_ARGUMENT where it is not .npy or of a kind that is not read;
// DATA_LOSS where it is cut off or has bytes behind its values.
absl::StatusOr<NpyHeader> ReadNpyHeader(int fd, const std::string& name);

// Fills `to` with the next bytes; fewer mean that there are no more.
using ReadBytesFunction = std::function<absl::StatusOr<size_t>(uint8_t* to, size_t bytes)>;

// The same from wherever bytes come; leaves off at the first value. The length is not checked.
absl::StatusOr<NpyHeader> ParseNpyHeader(const ReadBytesFunction& read, const std::string& name);

// Bytes of an open file from `offset` on, by pread. `fd` and `name` outlive it.
ReadBytesFunction ReadFileFrom(int fd, const std::string& name, int64_t offset);

}  // namespace lockstep
