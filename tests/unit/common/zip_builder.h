// SPDX-License-Identifier: Apache-2.0
// Zip archives by hand, so that a test can lie in any field.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

struct ZipEntry {
  std::string name;
  // As it is in the archive.
  std::string packed;
  // What the archive says of it.
  uint32_t bytes = 0;
  uint32_t crc = 0;
  uint16_t method = 0;
  uint16_t flags = 0;
  // What the directory says of the packed size; 0: the truth.
  uint32_t claimed_packed = 0;
};

inline uint32_t Crc(const std::string& bytes) {
  return static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
}

inline ZipEntry Stored(const std::string& name, const std::string& bytes) {
  return {.name = name, .packed = bytes, .bytes = static_cast<uint32_t>(bytes.size()), .crc = Crc(bytes)};
}

inline ZipEntry Deflated(const std::string& name, const std::string& bytes) {
  std::string packed(bytes.size() + 1024, '\0');
  z_stream stream{};
  // Without zlib's own header, as zip wants it.
  deflateInit2(&stream, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return {.name = name,
          .packed = packed,
          .bytes = static_cast<uint32_t>(bytes.size()),
          .crc = Crc(bytes),
          .method = Z_DEFLATED};
}

class ZipBuilder {
 public:
  std::string Build(const std::vector<ZipEntry>& entries) {
    std::string directory;
    for (const ZipEntry& entry : entries) {
      const auto offset = static_cast<uint32_t>(out_.size());
      const uint32_t packed =
          entry.claimed_packed != 0 ? entry.claimed_packed : static_cast<uint32_t>(entry.packed.size());
      out_ += Number(0x04034b50, 4) + Number(20, 2) + Fields(entry, packed) + entry.name + entry.packed;
      directory += Number(0x02014b50, 4) + Number(20, 2) + Number(20, 2) + Fields(entry, packed) + Number(0, 2) +
                   Number(0, 4) + Number(0, 4) + Number(offset, 4) + entry.name;
    }
    const auto begin = static_cast<uint32_t>(out_.size());
    return out_ + directory + Number(0x06054b50, 4) + Number(0, 4) + Number(entries.size(), 2) +
           Number(entries.size(), 2) + Number(directory.size(), 4) + Number(begin, 4) + Number(0, 2);
  }

 private:
  static std::string Number(uint64_t value, int bytes) {
    std::string s;
    for (int i = 0; i < bytes; ++i) s += static_cast<char>(value >> (8 * i));
    return s;
  }
  static std::string Fields(const ZipEntry& entry, uint32_t packed) {
    return Number(entry.flags, 2) + Number(entry.method, 2) + Number(0, 4) + Number(entry.crc, 4) + Number(packed, 4) +
           Number(entry.bytes, 4) + Number(entry.name.size(), 2) + Number(0, 2);
  }

  std::string out_;
};

inline std::string Zip(const std::vector<ZipEntry>& entries) { return ZipBuilder().Build(entries); }

}  // namespace lockstep
