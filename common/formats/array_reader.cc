// SPDX-License-Identifier: Apache-2.0
#include "common/formats/array_reader.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

// Values that are converted at a time.
constexpr int64_t kChunk = 4096;
constexpr const char* kEnding = ".npy";
constexpr size_t kMaxListed = 20;

// Calls `convert(value)` for each value of the given type in `raw`, until one is refused; returns its index,
// or `count`.
template <typename From, typename Convert>
int64_t ConvertEach(const uint8_t* raw, int64_t count, const Convert& convert) {
  for (int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, raw + static_cast<size_t>(i) * sizeof(From), sizeof(From));
    if (!convert(i, value)) return i;
  }
  return count;
}

template <typename Convert>
int64_t ConvertAll(NpyType type, const uint8_t* raw, int64_t count, const Convert& convert) {
  switch (type) {
    case NpyType::kBool:
    case NpyType::kU8:
      return ConvertEach<uint8_t>(raw, count, convert);
    case NpyType::kI8:
      return ConvertEach<int8_t>(raw, count, convert);
    case NpyType::kI16:
      return ConvertEach<int16_t>(raw, count, convert);
    case NpyType::kI32:
      return ConvertEach<int32_t>(raw, count, convert);
    case NpyType::kI64:
      return ConvertEach<int64_t>(raw, count, convert);
    case NpyType::kU16:
      return ConvertEach<uint16_t>(raw, count, convert);
    case NpyType::kU32:
      return ConvertEach<uint32_t>(raw, count, convert);
    case NpyType::kU64:
      return ConvertEach<uint64_t>(raw, count, convert);
    case NpyType::kF32:
      return ConvertEach<float>(raw, count, convert);
    case NpyType::kF64:
      return ConvertEach<double>(raw, count, convert);
  }
  return 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ArrayReader>> ArrayReader::Open(int fd, const std::string& name,
                                                               const std::string& member) {
  std::unique_ptr<ArrayReader> reader(new ArrayReader);
  reader->name_ = name;
  uint8_t start = 0;
  LOCKSTEP_ASSIGN_OR_RETURN(const size_t got, ReadFileFrom(fd, name, 0)(&start, 1));
  // A zip archive begins with PK.
  if (member.empty() && (got == 0 || start != 'P')) {
    LOCKSTEP_ASSIGN_OR_RETURN(reader->header_, ReadNpyHeader(fd, name));
    reader->read_ = ReadFileFrom(fd, reader->name_, reader->header_.data_offset);
    return reader;
  }
  LOCKSTEP_ASSIGN_OR_RETURN(reader->zip_, ZipReader::Open(fd, name));
  LOCKSTEP_RETURN_IF_ERROR(reader->OpenMember(member));
  return reader;
}

absl::Status ArrayReader::OpenMember(const std::string& member) {
  std::vector<std::string> arrays;
  size_t index = 0;
  for (size_t i = 0; i < zip_->members().size(); ++i) {
    absl::string_view array(zip_->members()[i].name);
    if (!absl::ConsumeSuffix(&array, kEnding)) continue;
    if (member.empty() ? arrays.empty() : array == member) index = i;
    arrays.emplace_back(array);
  }
  const bool found = member.empty() ? arrays.size() == 1 : std::ranges::count(arrays, member) == 1;
  if (!found) {
    const size_t all = arrays.size();
    arrays.resize(std::min(all, kMaxListed));
    for (std::string& array : arrays) array = absl::CHexEscape(array);
    const std::string has = all == 0
                                ? "it has none"
                                : absl::StrCat("it has ", absl::StrJoin(arrays, ", "), all > kMaxListed ? ", ..." : "");
    return absl::NotFoundError(member.empty()
                                   ? absl::StrCat(name_, ": name one of its arrays, as in file.npz:name; ", has)
                                   : absl::StrCat(name_, ": no array \"", absl::CHexEscape(member), "\"; ", has));
  }
  const ZipMember& chosen = zip_->members()[index];
  name_ = absl::StrCat(name_, ":", absl::CHexEscape(absl::StripSuffix(chosen.name, kEnding)));
  LOCKSTEP_RETURN_IF_ERROR(zip_->OpenMember(index));
  read_ = [this](uint8_t* to, size_t bytes) { return zip_->Read(to, bytes); };
  LOCKSTEP_ASSIGN_OR_RETURN(header_, ParseNpyHeader(read_, name_));
  const int64_t expected = header_.data_offset + header_.data_bytes();
  if (expected != chosen.bytes) {
    return absl::DataLossError(
        absl::StrCat(name_, ": the header promises ", expected, " bytes, the archive's directory ", chosen.bytes));
  }
  return absl::OkStatus();
}

absl::Status ArrayReader::Read(void* to, size_t bytes) {
  LOCKSTEP_ASSIGN_OR_RETURN(const size_t got, read_(static_cast<uint8_t*>(to), bytes));
  done_ += static_cast<int64_t>(got / SizeOf(header_.dtype));
  if (got == bytes) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(name_, ": truncated: it ends after ", done_, " of ", header_.shape.elements(), " values"));
}

template <typename To, typename Convert>
absl::Status ArrayReader::ReadAs(To* to, int64_t count, const Convert& convert) {
  std::array<uint8_t, kChunk * sizeof(double)> raw;
  while (count > 0) {
    const int64_t step = std::min(count, kChunk);
    const int64_t first = done_;
    LOCKSTEP_RETURN_IF_ERROR(Read(raw.data(), static_cast<size_t>(step) * SizeOf(header_.dtype)));
    const int64_t converted =
        ConvertAll(header_.dtype, raw.data(), step, [&](int64_t i, auto value) { return convert(value, to + i); });
    if (converted < step) {
      const int64_t rows = header_.shape.rank() == 0 ? 1 : std::max<int64_t>(header_.shape[0], 1);
      const int64_t width = std::max<int64_t>(header_.shape.elements() / rows, 1);
      const int64_t index = first + converted;
      return absl::OutOfRangeError(absl::StrCat(name_, ": value ", index % width, " of row ", index / width));
    }
    to += step;
    count -= step;
  }
  return absl::OkStatus();
}

absl::Status ArrayReader::ReadFloats(float* to, int64_t count) {
  const absl::Status status = ReadAs(to, count, [](auto value, float* out) {
    *out = static_cast<float>(value);
    return std::isfinite(*out);
  });
  if (!absl::IsOutOfRange(status)) return status;
  return absl::OutOfRangeError(absl::StrCat(status.message(), " is not a finite number of 32 bits"));
}

absl::Status ArrayReader::ReadInt32s(int32_t* to, int64_t count) {
  const absl::Status status = ReadAs(to, count, [](auto value, int32_t* out) {
    using From = decltype(value);
    if constexpr (std::is_floating_point_v<From>) {
      // Written so that NaN fails.
      if (!(value >= -2147483648.0 && value < 2147483648.0 && std::trunc(value) == value)) return false;
    } else {
      if (!std::in_range<int32_t>(value)) return false;
    }
    *out = static_cast<int32_t>(value);
    return true;
  });
  if (!absl::IsOutOfRange(status)) return status;
  return absl::OutOfRangeError(absl::StrCat(status.message(), " is not a whole number of 32 bits"));
}

absl::Status ArrayReader::Finish() { return zip_ == nullptr ? absl::OkStatus() : zip_->CloseMember(); }

}  // namespace lockstep
