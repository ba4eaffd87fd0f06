// SPDX-License-Identifier: Apache-2.0
// Bytes of a file, decompressed on the way where they are gzip (told by content, not by name).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

struct z_stream_s;

namespace lockstep {

class ByteSource {
 public:
  // Reads `fd` from its start; the caller keeps it open. `name` is used in messages.
  ByteSource(int fd, std::string name);
  ~ByteSource();
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  // Fills `to` with up to `bytes` bytes; fewer mean that the data ended there. DATA_LOSS where the file
  // cannot be read or the compressed data are damaged, cut off or followed by something else.
  absl::StatusOr<size_t> Read(uint8_t* to, size_t bytes);
  bool compressed() const { return zlib_ != nullptr; }

 private:
  struct InflateEnd {
    void operator()(z_stream_s* stream) const;
  };

  // Refills the buffer where it is used up; nothing left is not an error.
  absl::Status Fill();
  absl::StatusOr<size_t> Inflate(uint8_t* to, size_t bytes);
  absl::Status Damaged(const std::string& why) const;

  int fd_;
  std::string name_;
  std::vector<uint8_t> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  absl::Status status_;
  std::unique_ptr<z_stream_s, InflateEnd> zlib_;
  bool stream_ended_ = false;
};

}  // namespace lockstep
