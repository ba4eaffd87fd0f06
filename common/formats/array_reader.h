// SPDX-License-Identifier: Apache-2.0
// One array of NumPy, read from front to back: a .npy file, or an array in a .npz archive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/formats/npy.h"
#include "common/formats/zip_reader.h"

namespace lockstep {

// Of one thread.
class ArrayReader {
 public:
  // Reads the header of an open file, which stays open as long as the reader. `name` is used in messages.
  // `member`: an array's name in a .npz archive, as numpy.load shows it; "": the file itself, or the one
  // array of an archive. Which of the two a file is, its content tells. The array is as long as its header
  // promises, or it is refused. Errors as of ReadNpyHeader and ZipReader; NOT_FOUND lists the arrays.
  static absl::StatusOr<std::unique_ptr<ArrayReader>> Open(int fd, const std::string& name, const std::string& member);

  const NpyHeader& header() const { return header_; }
  // In an archive: its rows are not at header().data_offset of the file.
  bool in_archive() const { return zip_ != nullptr; }
  // For messages: "a.npz:x".
  const std::string& name() const { return name_; }

  // The next `bytes` bytes of the values, or an error.
  absl::Status Read(void* to, size_t bytes);
  // The next `count` values as another type; the array may have any. OUT_OF_RANGE names the value that is
  // no finite float, or no int32.
  absl::Status ReadFloats(float* to, int64_t count);
  absl::Status ReadInt32s(int32_t* to, int64_t count);
  // After the last value: DATA_LOSS where a checksum is wrong.
  absl::Status Finish();

 private:
  ArrayReader() = default;
  absl::Status OpenMember(const std::string& member);
  template <typename To, typename Convert>
  absl::Status ReadAs(To* to, int64_t count, const Convert& convert);

  std::string name_;
  NpyHeader header_;
  std::unique_ptr<ZipReader> zip_;
  ReadBytesFunction read_;
  // Values that were read.
  int64_t done_ = 0;
};

}  // namespace lockstep
