// SPDX-License-Identifier: Apache-2.0
// Members of a zip archive, stored or deflated, from front to back. Nothing that an archive says about
// itself sizes any memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lockstep {

inline constexpr size_t kMaxZipMembers = 10'000;
inline constexpr size_t kMaxZipNameBytes = 1024;

struct ZipMember {
  std::string name;
  // As the archive's directory says.
  int64_t packed_bytes = 0;
  int64_t bytes = 0;
};

class ZipReader {
 public:
  // Reads the directory of an open file, which stays open as long as the reader. `name` is used in
  // messages. INVALID_ARGUMENT where it is no zip archive, has too many members, a name too long or
  // twice; DATA_LOSS where it cannot be read.
  static absl::StatusOr<std::unique_ptr<ZipReader>> Open(int fd, std::string name);
  ~ZipReader();
  ZipReader(const ZipReader&) = delete;
  ZipReader& operator=(const ZipReader&) = delete;

  const std::vector<ZipMember>& members() const { return members_; }

  // Begins to read members()[index]. INVALID_ARGUMENT where it is encrypted, packed in a way that is not
  // read or a zip bomb.
  absl::Status OpenMember(size_t index);
  // Fills `to`; fewer bytes mean that the member ended there.
  absl::StatusOr<size_t> Read(uint8_t* to, size_t bytes);
  // After the last byte was read: DATA_LOSS where the checksum is wrong.
  absl::Status CloseMember();

 private:
  struct Stream;

  ZipReader(std::string name, std::unique_ptr<Stream> stream);
  absl::Status List();
  absl::Status Bad(const std::string& what) const;
  absl::Status Damaged(const std::string& what) const;

  std::string name_;
  std::unique_ptr<Stream> stream_;
  // Of minizip.
  void* zip_ = nullptr;
  std::vector<ZipMember> members_;
  // The open member's name.
  std::string member_;
};

}  // namespace lockstep
