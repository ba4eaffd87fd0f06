// SPDX-License-Identifier: Apache-2.0
#include "common/formats/idx_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

namespace fs = std::filesystem;

// A file is the values, this, and the hash of both. Another layout gets another mark, and so other names.
constexpr char kMark[] = "lockstep-idx-1";
struct Trailer {
  char mark[sizeof(kMark)];
  int32_t rank;
  int64_t dims[Shape::kMaxRank];
};
constexpr size_t kHashBytes = 32;
constexpr size_t kExtraBytes = sizeof(Trailer) + kHashBytes;
constexpr const char* kSuffix = ".idx";

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

bool ReadAll(int fd, std::span<uint8_t> to) {
  for (size_t done = 0; done < to.size();) {
    const ssize_t got = pread(fd, to.data() + done, to.size() - done, static_cast<off_t>(done));
    if (got <= 0) return false;
    done += static_cast<size_t>(got);
  }
  return true;
}

bool WriteAll(int fd, std::span<const uint8_t> from) {
  for (size_t done = 0; done < from.size();) {
    const ssize_t put = pwrite(fd, from.data() + done, from.size() - done, static_cast<off_t>(done));
    if (put <= 0) return false;
    done += static_cast<size_t>(put);
  }
  return true;
}

// Of the packed file; empty where it is not packed or cannot be read.
std::string HashOfPacked(int fd) {
  struct stat info {};
  uint8_t magic[2] = {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || !ReadAll(fd, magic)) return "";
  if (magic[0] != 0x1f || magic[1] != 0x8b) return "";
  std::vector<uint8_t> bytes(static_cast<size_t>(info.st_size));
  return ReadAll(fd, bytes) ? Sha256(std::as_bytes(std::span(bytes))) : "";
}

// A folder of this user's that nobody else writes to.
bool UseFolder(const std::string& folder) {
  std::error_code ignored;
  fs::create_directories(fs::path(folder).parent_path(), ignored);
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return false;
  struct stat info {};
  return lstat(folder.c_str(), &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == geteuid() &&
         (info.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

// The whole file, for reading; null where it cannot be.
std::shared_ptr<const uint8_t> Map(int fd, size_t size) {
  void* const at = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return nullptr;
  return {static_cast<const uint8_t*>(at), [size](const uint8_t* p) { munmap(const_cast<uint8_t*>(p), size); }};
}

std::optional<SharedIdx> Load(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat info {};
  if (file.get() < 0 || fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  const auto size = static_cast<size_t>(info.st_size);
  if (size < kExtraBytes) return std::nullopt;
  const std::shared_ptr<const uint8_t> memory = Map(file.get(), size);
  if (memory == nullptr) return std::nullopt;
  const std::span<const uint8_t> bytes(memory.get(), size);
  const std::string hash = FastDigest(std::as_bytes(bytes.first(size - kHashBytes)));
  if (std::memcmp(hash.data(), bytes.last(kHashBytes).data(), kHashBytes) != 0) return std::nullopt;
  Trailer trailer;
  std::memcpy(&trailer, bytes.last(kExtraBytes).data(), sizeof(trailer));
  if (std::memcmp(trailer.mark, kMark, sizeof(kMark)) != 0 || trailer.rank < 1 || trailer.rank > Shape::kMaxRank) {
    return std::nullopt;
  }
  const std::vector<int64_t> dims(trailer.dims, trailer.dims + trailer.rank);
  if (CheckedElements(dims, kMaxIdxValues) != static_cast<int64_t>(size - kExtraBytes)) return std::nullopt;
  futimens(file.get(), nullptr);  // Used just now, see Trim.
  return SharedIdx{Shape(dims), bytes.first(size - kExtraBytes), memory};
}

// Of this process alone.
absl::StatusOr<SharedIdx> ReadAlone(int fd, const std::string& name) {
  LOCKSTEP_ASSIGN_OR_RETURN(IdxData data, ReadIdx(fd, name));
  const auto owner = std::make_shared<const std::vector<uint8_t>>(std::move(data.values));
  return SharedIdx{data.shape, *owner, owner};
}

// True: whole, in the open file.
bool Store(int fd, const SharedIdx& data) {
  Trailer trailer;
  std::memset(&trailer, 0, sizeof(trailer));
  std::memcpy(trailer.mark, kMark, sizeof(kMark));
  trailer.rank = data.shape.rank();
  for (int i = 0; i < data.shape.rank(); ++i) trailer.dims[i] = data.shape[i];
  std::vector<uint8_t> bytes;
  bytes.reserve(data.values.size() + kExtraBytes);
  bytes.assign(data.values.begin(), data.values.end());
  const auto* const raw = reinterpret_cast<const uint8_t*>(&trailer);
  bytes.insert(bytes.end(), raw, raw + sizeof(trailer));
  const std::string hash = FastDigest(std::as_bytes(std::span(bytes)));
  bytes.insert(bytes.end(), hash.begin(), hash.end());
  return ftruncate(fd, 0) == 0 && WriteAll(fd, bytes);
}

// Makes room for `bytes` more.
void Trim(const IdxCache& cache, uint64_t bytes) {
  struct Kept {
    fs::file_time_type used;
    fs::path path;
    uint64_t bytes;
  };
  std::vector<Kept> kept;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(cache.folder, error)) {
    if (!entry.is_regular_file(error)) continue;
    kept.push_back({entry.last_write_time(error), entry.path(), entry.file_size(error)});
    if (error) kept.pop_back();
  }
  std::ranges::sort(kept, {}, &Kept::used);
  uint64_t total = bytes;
  for (const Kept& file : kept) total += file.bytes;
  for (const Kept& file : kept) {
    if (total <= cache.limit_bytes) return;
    if (fs::remove(file.path, error)) total -= file.bytes;
  }
}

absl::StatusOr<SharedIdx> UnpackAndKeep(int fd, const std::string& name, const IdxCache& cache, const std::string& key,
                                        const std::string& path) {
  // The lock goes with the process that holds it. Who waited for it finds the file in place; what a process left
  // that was killed is written over.
  const std::string part = absl::StrCat(path, ".part");
  const Descriptor lock(open(part.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  const bool locked = lock.get() >= 0 && flock(lock.get(), LOCK_EX) == 0;
  if (locked) {
    if (std::optional<SharedIdx> kept = Load(path)) return *std::move(kept);
  }
  absl::StatusOr<SharedIdx> data = ReadAlone(fd, name);
  if (!locked) return data;
  const uint64_t bytes = data.ok() ? data->values.size() : 0;
  bool keep = data.ok() && bytes >= cache.min_bytes && bytes <= cache.limit_bytes / 2;
  if (keep) {
    Trim(cache, bytes);
    // What was unpacked is what was hashed, or else the file was written to in between.
    keep = Store(lock.get(), *data) && HashOfPacked(fd) == key && rename(part.c_str(), path.c_str()) == 0;
  }
  if (!keep) {
    unlink(part.c_str());
    return data;
  }
  std::optional<SharedIdx> kept = Load(path);
  return kept.has_value() ? *std::move(kept) : data;
}

}  // namespace

IdxCache IdxCacheFromEnvironment() {
  const char* chosen = std::getenv("LOCKSTEP_CACHE_DIR");
  if (chosen != nullptr && *chosen != '\0') return {.folder = std::strcmp(chosen, "off") == 0 ? "" : chosen};
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home != '/') return {};
  return {.folder = absl::StrCat(home, "/.cache/lockstep/unpacked")};
}

absl::StatusOr<SharedIdx> ReadIdxCached(int fd, const std::string& name, const IdxCache& cache) {
  if (cache.folder.empty()) return ReadAlone(fd, name);
  const std::string key = HashOfPacked(fd);
  if (key.empty() || !UseFolder(cache.folder)) return ReadAlone(fd, name);
  const std::string path = absl::StrCat(cache.folder, "/", key, kSuffix);
  if (std::optional<SharedIdx> kept = Load(path)) return *std::move(kept);
  return UnpackAndKeep(fd, name, cache, key, path);
}

}  // namespace lockstep
