// SPDX-License-Identifier: Apache-2.0
#include "common/formats/safe_path.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

namespace lockstep {

namespace {

namespace fs = std::filesystem;

// -1 and errno: EXDEV where the path leaves the root. O_NONBLOCK so that a FIFO cannot hold us up.
int OpenBeneath(int root, const std::string& relative) {
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  return static_cast<int>(syscall(SYS_openat2, root, relative.c_str(), &how, sizeof(how)));
}

absl::Status Outside(const std::string& path, const std::vector<std::string>& roots) {
  return absl::PermissionDeniedError(
      absl::StrCat(path, " leads outside the data folders (", absl::StrJoin(roots, ", "), ")"));
}

// The path below `root`, or nothing where an absolute path is not below it.
bool Relative(const std::string& path, const std::string& root, std::string& relative) {
  if (path.empty() || path[0] != '/') {
    relative = path;
    return true;
  }
  const std::string base = fs::path(root).lexically_normal().string();
  absl::string_view rest(path);
  if (!absl::ConsumePrefix(&rest, absl::StripSuffix(base, "/")) || (!rest.empty() && rest[0] != '/')) return false;
  relative = std::string(absl::StripPrefix(rest, "/"));
  return true;
}

absl::Status CheckRegular(int fd, const std::string& path) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return absl::UnavailableError(absl::StrCat(path, ": ", std::strerror(errno)));
  if (S_ISREG(info.st_mode)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, " is not a regular file but a ", S_ISDIR(info.st_mode) ? "folder" : "device, FIFO or socket"));
}

}  // namespace

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

File::~File() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<File> OpenUnderRoots(const std::string& path, const std::vector<std::string>& roots,
                                    const std::vector<std::string>& alternatives) {
  if (path.empty()) return absl::InvalidArgumentError("the path is empty");
  if (path.find('\0') != std::string::npos) return absl::InvalidArgumentError("the path contains a NUL byte");
  bool outside = path[0] == '/';
  for (const std::string& root : roots) {
    std::string relative;
    if (!Relative(path, root, relative)) continue;
    outside = false;
    const File folder(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC), root);
    if (folder.fd() < 0) continue;
    for (const std::string& ending : alternatives) {
      const std::string name = relative + ending;
      const std::string full = (fs::path(root) / name).string();
      File file(OpenBeneath(folder.fd(), name), full);
      if (file.fd() < 0 && errno == EXDEV) return Outside(path, roots);
      if (file.fd() < 0 && errno == ENXIO) return absl::InvalidArgumentError(absl::StrCat(full, " is a socket"));
      if (file.fd() < 0 && errno != ENOENT && errno != ENOTDIR) {
        return absl::UnavailableError(absl::StrCat(full, ": ", std::strerror(errno)));
      }
      if (file.fd() < 0) continue;
      if (absl::Status s = CheckRegular(file.fd(), full); !s.ok()) return s;
      return file;
    }
  }
  if (outside) return Outside(path, roots);
  return absl::NotFoundError(absl::StrCat(path, " is in none of the data folders (",
                                          roots.empty() ? "none is set" : absl::StrJoin(roots, ", "), ")"));
}

}  // namespace lockstep
