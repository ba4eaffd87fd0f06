// SPDX-License-Identifier: Apache-2.0
// Files that a job names: only regular files below one of the allowed folders are opened.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace lockstep {

// An open file; closes itself.
class File {
 public:
  File(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}
  File& operator=(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File();

  int fd() const { return fd_; }
  // For messages.
  const std::string& path() const { return path_; }

 private:
  int fd_;
  std::string path_;
};

// Opens `path` for reading below the first root that has it. No step of the way leaves the roots, and
// nothing can be swapped in between: what is checked is what is open. A symbolic link may stand on the
// way if it stays below a root. An absolute path must lie below a root. `alternatives` are endings tried
// in turn ("" and ".gz", for example).
// NOT_FOUND lists the roots; PERMISSION_DENIED where the path leads outside; INVALID_ARGUMENT where it
// is not a regular file.
absl::StatusOr<File> OpenUnderRoots(const std::string& path, const std::vector<std::string>& roots,
                                    const std::vector<std::string>& alternatives = {""});

// The absolute path of the file that OpenUnderRoots opens, without symbolic links. For showing: by the
// time of a later open another file may be there.
absl::StatusOr<std::string> ResolveUnderRoots(const std::string& path, const std::vector<std::string>& roots,
                                              const std::vector<std::string>& alternatives = {""});

// The files that a pattern stands for, in the order of their names' bytes, as paths for OpenUnderRoots. A *
// in the name of the file (not of a folder) fits anything, but no name that begins with a dot; without one
// the pattern is a path and is given back. Looked for in the first root that has the folder. NOT_FOUND
// where no file fits.
inline constexpr size_t kMaxFilesOfPattern = 100'000;
absl::StatusOr<std::vector<std::string>> ExpandUnderRoots(const std::string& pattern,
                                                          const std::vector<std::string>& roots);

}  // namespace lockstep
