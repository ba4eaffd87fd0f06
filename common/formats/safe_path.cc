// SPDX-License-Identifier: Apache-2.0
#include "common/formats/safe_path.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
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

enum class Kind { kFile, kFolder };

absl::Status CheckKind(int fd, const std::string& path, Kind wanted) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return absl::UnavailableError(absl::StrCat(path, ": ", std::strerror(errno)));
  const bool folder = S_ISDIR(info.st_mode), file = S_ISREG(info.st_mode);
  if (wanted == Kind::kFile ? file : folder) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, wanted == Kind::kFile ? " is not a regular file but a " : " is not a folder but a ",
                   folder ? "folder"
                   : file ? "file"
                          : "device, FIFO or socket"));
}

// See OpenUnderRoots.
absl::StatusOr<File> OpenKind(const std::string& path, const std::vector<std::string>& roots,
                              const std::vector<std::string>& alternatives, Kind kind) {
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
      if (absl::Status s = CheckKind(file.fd(), full, kind); !s.ok()) return s;
      return file;
    }
  }
  if (outside) return Outside(path, roots);
  return absl::NotFoundError(absl::StrCat(path, " is in none of the data folders (",
                                          roots.empty() ? "none is set" : absl::StrJoin(roots, ", "), ")"));
}

// True where `name` is `pattern` with something, or nothing, in place of each *.
bool Fits(absl::string_view name, absl::string_view pattern) {
  const std::vector<absl::string_view> pieces = absl::StrSplit(pattern, '*');
  if (!absl::ConsumePrefix(&name, pieces.front())) return false;
  if (pieces.size() == 1) return name.empty();
  if (!absl::ConsumeSuffix(&name, pieces.back())) return false;
  // Each piece as early as it can be leaves the most for those behind it.
  for (size_t i = 1; i + 1 < pieces.size(); ++i) {
    const size_t at = name.find(pieces[i]);
    if (at == absl::string_view::npos) return false;
    name.remove_prefix(at + pieces[i].size());
  }
  return true;
}

// Names of the folder that fit, in the order of their bytes. Those that begin with a dot do not.
absl::StatusOr<std::vector<std::string>> NamesThatFit(const File& folder, const std::string& pattern) {
  // Reads through a descriptor of its own, which it closes.
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(fdopendir(dup(folder.fd())), closedir);
  if (listing == nullptr) return absl::UnavailableError(absl::StrCat(folder.path(), ": ", std::strerror(errno)));
  std::vector<std::string> names;
  while (const dirent* entry = readdir(listing.get())) {
    if (entry->d_name[0] == '.' || !Fits(entry->d_name, pattern)) continue;
    if (names.size() >= kMaxFilesOfPattern) {
      return absl::ResourceExhaustedError(
          absl::StrCat(folder.path(), ": more than ", kMaxFilesOfPattern, " files fit \"", pattern, "\""));
    }
    names.emplace_back(entry->d_name);
  }
  std::ranges::sort(names);
  return names;
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
  return OpenKind(path, roots, alternatives, Kind::kFile);
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

absl::StatusOr<std::vector<std::string>> ExpandUnderRoots(const std::string& pattern,
                                                          const std::vector<std::string>& roots) {
  if (pattern.find('*') == std::string::npos) return std::vector<std::string>{pattern};
  const fs::path path(pattern);
  if (path.parent_path().native().find('*') != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(pattern, ": a * may only stand in the name of a file"));
  }
  const std::string parent = path.parent_path().empty() ? "." : path.parent_path().string();
  absl::StatusOr<File> folder = OpenKind(parent, roots, {""}, Kind::kFolder);
  if (!folder.ok()) return folder.status();
  absl::StatusOr<std::vector<std::string>> names = NamesThatFit(*folder, path.filename());
  if (!names.ok()) return names.status();
  if (names->empty()) {
    return absl::NotFoundError(absl::StrCat("no file of ", folder->path(), " fits \"", path.filename().string(), "\""));
  }
  const fs::path base = fs::absolute(folder->path()).lexically_normal();
  for (std::string& name : *names) name = base / name;
  return names;
}

}  // namespace lockstep
