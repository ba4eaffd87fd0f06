// SPDX-License-Identifier: Apache-2.0
#include "server/store/lock_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace lockstep::store {

absl::StatusOr<std::unique_ptr<LockFile>> LockFile::Acquire(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return absl::PermissionDeniedError(absl::StrCat(path, ": cannot open: ", std::strerror(errno)));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    char pid[32] = {};
    if (pread(fd, pid, sizeof(pid) - 1, 0) <= 0) std::strcpy(pid, "unknown");
    close(fd);
    const std::string holder(absl::StripSuffix(pid, "\n"));
    return absl::FailedPreconditionError(absl::StrCat(
        path, ": another lockstepd (pid ", holder, ") uses this state folder; stop it or choose another --state-dir"));
  }
  const std::string text = absl::StrCat(getpid(), "\n");
  if (ftruncate(fd, 0) != 0 || pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    const int error = errno;
    close(fd);
    return absl::ResourceExhaustedError(absl::StrCat(path, ": cannot write: ", std::strerror(error)));
  }
  return std::unique_ptr<LockFile>(new LockFile(fd));
}

LockFile::~LockFile() { close(fd_); }

}  // namespace lockstep::store
