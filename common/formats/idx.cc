// SPDX-License-Identifier: Apache-2.0
#include "common/formats/idx.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/formats/byte_source.h"
#include "common/formats/memory_limit.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

constexpr int kUnsignedByte = 0x08;

absl::Status Truncated(const std::string& name, uint64_t expected, uint64_t got) {
  return absl::DataLossError(
      absl::StrCat(name, ": truncated: the header promises ", expected, " bytes, the file has ", got));
}

absl::StatusOr<Shape> ParseHeader(ByteSource& source, const std::string& name, size_t* header_bytes) {
  uint8_t head[4];
  LOCKSTEP_ASSIGN_OR_RETURN(const size_t got, source.Read(head, sizeof(head)));
  if (got < sizeof(head)) return Truncated(name, sizeof(head), got);
  if (head[0] != 0 || head[1] != 0 || head[2] != kUnsignedByte || head[3] < 1 || head[3] > Shape::kMaxRank) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": not an IDX file of unsigned bytes: it starts with ", absl::Hex(head[0], absl::kZeroPad2),
                     " ", absl::Hex(head[1], absl::kZeroPad2), " ", absl::Hex(head[2], absl::kZeroPad2), " ",
                     absl::Hex(head[3], absl::kZeroPad2), ", expected 00 00 08 and the number of axes"));
  }
  uint8_t axes[4 * Shape::kMaxRank] = {};
  const size_t axes_bytes = 4u * head[3];
  LOCKSTEP_ASSIGN_OR_RETURN(const size_t axes_got, source.Read(axes, axes_bytes));
  if (axes_got < axes_bytes) return Truncated(name, 4 + axes_bytes, 4 + axes_got);
  std::vector<int64_t> dims;
  for (int i = 0; i < head[3]; ++i) {
    const uint8_t* p = axes + 4 * i;
    dims.push_back(int64_t{p[0]} << 24 | int64_t{p[1]} << 16 | int64_t{p[2]} << 8 | p[3]);
  }
  if (CheckedElements(dims, kMaxIdxValues) < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": the header promises ", Shape(dims).ToString(), ", more than the limit of 4 GiB"));
  }
  *header_bytes = 4 + axes_bytes;
  return Shape(dims);
}

// Whether the file can hold what its header promises.
absl::Status CheckSize(int fd, const std::string& name, bool compressed, size_t header_bytes, int64_t values) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return absl::OkStatus();
  if (compressed) {
    if (!IsBomb(info.st_size, values)) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(name, ": would unpack ", info.st_size, " bytes to ", values,
                                                   ", more than ", kMaxUnpackRatio,
                                                   " times as many; if that is meant, unpack it with gunzip"));
  }
  const uint64_t expected = header_bytes + static_cast<uint64_t>(values);
  const uint64_t size = static_cast<uint64_t>(info.st_size);
  if (size < expected) return Truncated(name, expected, size);
  if (size > expected) {
    return absl::DataLossError(absl::StrCat(name, ": ", size - expected, " bytes too many after the values"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Shape> ReadIdxHeader(int fd, const std::string& name) {
  ByteSource source(fd, name);
  size_t header = 0;
  LOCKSTEP_ASSIGN_OR_RETURN(const Shape shape, ParseHeader(source, name, &header));
  LOCKSTEP_RETURN_IF_ERROR(CheckSize(fd, name, source.compressed(), header, shape.elements()));
  return shape;
}

absl::StatusOr<IdxData> ReadIdx(int fd, const std::string& name) {
  ByteSource source(fd, name);
  size_t header = 0;
  IdxData data;
  LOCKSTEP_ASSIGN_OR_RETURN(data.shape, ParseHeader(source, name, &header));
  LOCKSTEP_RETURN_IF_ERROR(CheckSize(fd, name, source.compressed(), header, data.shape.elements()));
  const size_t total = static_cast<size_t>(data.shape.elements());
  // Compressed, it grows with what is really there, so that a lying header costs no memory.
  const size_t first = source.compressed() ? size_t{1} << 20 : total;
  size_t done = 0;
  while (done < total) {
    const size_t want = done == 0 ? std::min(total, first) : std::min(total, done * 2);
    data.values.resize(want);
    LOCKSTEP_ASSIGN_OR_RETURN(const size_t got, source.Read(data.values.data() + done, want - done));
    done += got;
    if (done < want) return Truncated(name, header + total, header + done);
  }
  uint8_t extra;
  LOCKSTEP_ASSIGN_OR_RETURN(const size_t more, source.Read(&extra, 1));
  if (more != 0) return absl::DataLossError(absl::StrCat(name, ": bytes after the values that the header promises"));
  return data;
}

absl::Status WriteIdx(const std::string& path, const Shape& shape, const std::vector<uint8_t>& values) {
  std::vector<uint8_t> header{0, 0, kUnsignedByte, static_cast<uint8_t>(shape.rank())};
  for (int64_t d : shape.dims()) {
    for (int shift : {24, 16, 8, 0}) header.push_back(static_cast<uint8_t>(d >> shift));
  }
  std::unique_ptr<FILE, int (*)(FILE*)> file(fopen(path.c_str(), "wbe"), fclose);
  const bool written = file != nullptr && fwrite(header.data(), 1, header.size(), file.get()) == header.size() &&
                       fwrite(values.data(), 1, values.size(), file.get()) == values.size() && fflush(file.get()) == 0;
  if (!written) return absl::DataLossError(absl::StrCat("cannot write ", path, "; is the disk full?"));
  return absl::OkStatus();
}

}  // namespace lockstep
