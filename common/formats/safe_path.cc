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
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace lockstep {

namespace {

namespace fs = std::filesystem;

// O_NONBLOCK so that a FIFO cannot hold us up.
constexpr int kOpenFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

// -1 and errno: EXDEV where the path leaves the root or crosses an absolute symbolic link.
int OpenBeneath(int root, const std::string& relative) {
  open_how how{};
  how.flags = kOpenFlags;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  return static_cast<int>(syscall(SYS_openat2, root, relative.c_str(), &how, sizeof(how)));
}

// Opens a path that has no symbolic links (any more), step by step, so that one put there meanwhile is
// refused with ELOOP.
int OpenWithoutLinks(const std::string& root, const std::string& relative) {
  File at(open(root.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), root);
  const std::vector<std::string> steps = absl::StrSplit(relative, '/', absl::SkipEmpty());
  for (size_t i = 0; i + 1 < steps.size() && at.fd() >= 0; ++i) {
    at = File(openat(at.fd(), steps[i].c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), root);
  }
  if (at.fd() < 0 || steps.empty()) return -1;
  return openat(at.fd(), steps.back().c_str(), kOpenFlags | O_NOFOLLOW);
}

// For links that the kernel's check does not follow, and kernels without it: the path is resolved
// first, and then opened without following anything. errno: EXDEV where it leads outside every root.
int OpenResolved(const std::string& full, const std::vector<std::string>& roots) {
  std::error_code error;
  const std::string target = fs::canonical(full, error).string();
  if (error) {
    errno = error.value();
    return -1;
  }
  for (const std::string& root : roots) {
    const std::string base = fs::canonical(root, error).string();
    absl::string_view rest(target);
    if (error || !absl::ConsumePrefix(&rest, absl::StripSuffix(base, "/")) || !absl::ConsumePrefix(&rest, "/"))
      continue;
    return OpenWithoutLinks(base, std::string(rest));
  }
  errno = EXDEV;
  return -1;
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
  const std::string base = fs::absolute(root).lexically_normal().string();
  absl::string_view rest(path);
  if (!absl::ConsumePrefix(&rest, absl::StripSuffix(base, "/")) || (!rest.empty() && rest[0] != '/')) return false;
  while (absl::ConsumePrefix(&rest, "/")) {
  }
  relative = rest.empty() ? "." : std::string(rest);
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
  // Whether or not something is there, a path that climbs out is refused as such.
  const std::string normal = fs::path(path).lexically_normal().string();
  if (normal == ".." || normal.starts_with("../")) return Outside(path, roots);
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
      // EPERM and ENOSYS: no openat2 here.
      if (file.fd() < 0 && (errno == EXDEV || errno == ENOSYS || errno == EPERM)) {
        file = File(OpenResolved(full, roots), full);
      }
      if (file.fd() < 0 && errno == EXDEV) return Outside(path, roots);
      if (file.fd() < 0 && errno == ENXIO) return absl::InvalidArgumentError(absl::StrCat(full, " is a socket"));
      if (file.fd() < 0 && errno == EACCES) {
        return absl::PermissionDeniedError(absl::StrCat(full, ": no permission to read it"));
      }
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

absl::StatusOr<std::string> ResolveUnderRoots(const std::string& path, const std::vector<std::string>& roots,
                                              const std::vector<std::string>& alternatives) {
  absl::StatusOr<File> file = OpenUnderRoots(path, roots, alternatives);
  if (!file.ok()) return file.status();
  std::error_code error;
  const std::string resolved = fs::canonical(file->path(), error).string();
  if (error) return absl::NotFoundError(absl::StrCat(file->path(), ": ", error.message()));
  return resolved;
}

}  // namespace lockstep
