// SPDX-License-Identifier: Apache-2.0
#include "common/formats/zip_reader.h"

#include <minizip/unzip.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/formats/memory_limit.h"
#include "common/status_macros.h"

namespace lockstep {

// What minizip reads through: an open file by pread, so that its position stays the caller's.
struct ZipReader::Stream {
  int fd = -1;
  int64_t at = 0;
  int64_t size = 0;
  bool failed = false;
  std::array<uint8_t, 16384> block;
  int64_t block_begin = 0;
  int64_t block_bytes = 0;

  static void* Open(void* self, const void*, int) { return self; }
  static int Close(void*, void*) { return 0; }
  static uLong Write(void*, void*, const void*, uLong) { return 0; }
  static int Failed(void* self, void*) { return static_cast<Stream*>(self)->failed ? 1 : 0; }
  static ZPOS64_T Tell(void* self, void*) { return static_cast<ZPOS64_T>(static_cast<Stream*>(self)->at); }

  static uLong Read(void* self, void*, void* to, uLong bytes) {
    auto* stream = static_cast<Stream*>(self);
    uLong done = 0;
    while (done < bytes) {
      // minizip reads numbers byte by byte.
      const int64_t inside = stream->at - stream->block_begin;
      if (inside < 0 || inside >= stream->block_bytes) {
        if (!stream->Fill()) break;
        continue;
      }
      const uLong count = std::min<uLong>(bytes - done, static_cast<uLong>(stream->block_bytes - inside));
      std::memcpy(static_cast<char*>(to) + done, stream->block.data() + inside, count);
      done += count;
      stream->at += static_cast<int64_t>(count);
    }
    return done;
  }

  // The block that begins at `at`; false where there is none. minizip takes the end of the file for zeros, but
  // nothing is rightly read there.
  bool Fill() {
    ssize_t got = 0;
    do {
      got = pread(fd, block.data(), block.size(), at);
    } while (got < 0 && errno == EINTR);
    block_begin = at;
    block_bytes = std::max<ssize_t>(got, 0);
    if (got <= 0) failed = true;
    return got > 0;
  }

  // An offset comes from the archive and may be anything.
  static long Seek(void* self, void*, ZPOS64_T offset, int origin) {
    auto* stream = static_cast<Stream*>(self);
    const int64_t from = origin == ZLIB_FILEFUNC_SEEK_END   ? stream->size
                         : origin == ZLIB_FILEFUNC_SEEK_CUR ? stream->at
                                                            : 0;
    int64_t to = 0;
    if (__builtin_add_overflow(from, static_cast<int64_t>(offset), &to) || to < 0 || to > stream->size) return -1;
    stream->at = to;
    return 0;
  }
};

ZipReader::ZipReader(std::string name, std::unique_ptr<Stream> stream)
    : name_(std::move(name)), stream_(std::move(stream)) {
  zlib_filefunc64_def functions{.zopen64_file = Stream::Open,
                                .zread_file = Stream::Read,
                                .zwrite_file = Stream::Write,
                                .ztell64_file = Stream::Tell,
                                .zseek64_file = Stream::Seek,
                                .zclose_file = Stream::Close,
                                .zerror_file = Stream::Failed,
                                .opaque = stream_.get()};
  zip_ = unzOpen2_64(stream_.get(), &functions);
}

ZipReader::~ZipReader() {
  if (zip_ == nullptr) return;
  if (!member_.empty()) unzCloseCurrentFile(zip_);
  unzClose(zip_);
}

absl::Status ZipReader::Bad(const std::string& what) const {
  return absl::InvalidArgumentError(
      absl::StrCat(name_, member_.empty() ? "" : absl::StrCat(":", absl::CHexEscape(member_)), ": ", what));
}

absl::Status ZipReader::Damaged(const std::string& what) const {
  return absl::DataLossError(
      absl::StrCat(name_, member_.empty() ? "" : absl::StrCat(":", absl::CHexEscape(member_)), ": damaged: ", what));
}

absl::StatusOr<std::unique_ptr<ZipReader>> ZipReader::Open(int fd, std::string name) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return absl::DataLossError(absl::StrCat(name, ": cannot be read"));
  auto stream = std::make_unique<Stream>();
  stream->fd = fd;
  stream->size = info.st_size;
  std::unique_ptr<ZipReader> reader(new ZipReader(std::move(name), std::move(stream)));
  if (reader->zip_ == nullptr || reader->stream_->failed) {
    return reader->Bad("not a zip archive, or its end is cut off");
  }
  LOCKSTEP_RETURN_IF_ERROR(reader->List());
  return reader;
}

absl::Status ZipReader::List() {
  std::set<std::string> seen;
  unz_global_info64 global{};
  if (unzGetGlobalInfo64(zip_, &global) != UNZ_OK) return Damaged("the directory cannot be read");
  if (global.number_entry == 0) return absl::OkStatus();
  for (int code = unzGoToFirstFile(zip_); code != UNZ_END_OF_LIST_OF_FILE; code = unzGoToNextFile(zip_)) {
    if (code != UNZ_OK) return Damaged("the directory cannot be read");
    if (members_.size() >= kMaxZipMembers) return Bad(absl::StrCat("more than ", kMaxZipMembers, " members"));
    unz_file_info64 info{};
    std::array<char, kMaxZipNameBytes + 1> text{};
    if (unzGetCurrentFileInfo64(zip_, &info, text.data(), text.size(), nullptr, 0, nullptr, 0) != UNZ_OK) {
      return Damaged("the directory cannot be read");
    }
    if (info.size_filename > kMaxZipNameBytes) {
      return Bad(absl::StrCat("member ", members_.size(), " has a name of more than ", kMaxZipNameBytes, " bytes"));
    }
    constexpr auto kMost = static_cast<ZPOS64_T>(std::numeric_limits<int64_t>::max());
    if (info.compressed_size > static_cast<ZPOS64_T>(stream_->size) || info.uncompressed_size > kMost) {
      return Damaged(absl::StrCat("member ", members_.size(), " claims more bytes than the archive has"));
    }
    members_.push_back({std::string(text.data(), info.size_filename), static_cast<int64_t>(info.compressed_size),
                        static_cast<int64_t>(info.uncompressed_size)});
    if (members_.back().name.empty()) return Bad(absl::StrCat("member ", members_.size() - 1, " has no name"));
    if (!seen.insert(members_.back().name).second) {
      return Bad(absl::StrCat("two members are called \"", absl::CHexEscape(members_.back().name), "\""));
    }
  }
  return absl::OkStatus();
}

absl::Status ZipReader::OpenMember(size_t index) {
  if (!member_.empty()) {
    unzCloseCurrentFile(zip_);
    member_.clear();
  }
  int code = unzGoToFirstFile(zip_);
  for (size_t i = 0; i < index && code == UNZ_OK; ++i) code = unzGoToNextFile(zip_);
  unz_file_info64 info{};
  if (code == UNZ_OK) code = unzGetCurrentFileInfo64(zip_, &info, nullptr, 0, nullptr, 0, nullptr, 0);
  if (code != UNZ_OK) return Damaged("the directory cannot be read");
  const ZipMember& member = members_[index];
  const std::string place = absl::StrCat("member \"", absl::CHexEscape(member.name), "\" ");
  if ((info.flag & 1) != 0) return Bad(place + "is encrypted");
  if (info.compression_method != 0 && info.compression_method != Z_DEFLATED) {
    return Bad(absl::StrCat(place, "is packed by method ", info.compression_method,
                            "; use numpy.savez or numpy.savez_compressed"));
  }
  if (info.compression_method == 0 && member.bytes != member.packed_bytes) {
    return Damaged(absl::StrCat(place, "is stored as ", member.packed_bytes, " bytes but claims ", member.bytes));
  }
  if (IsBomb(member.packed_bytes, member.bytes)) {
    return Bad(absl::StrCat(place, "would unpack ", member.packed_bytes, " bytes to ", member.bytes, ", more than ",
                            kMaxUnpackRatio, " times as many; if that is meant, save it with numpy.savez"));
  }
  if (unzOpenCurrentFile(zip_) != UNZ_OK) return Damaged(place + "does not agree with the archive's directory");
  member_ = member.name;
  return absl::OkStatus();
}

absl::StatusOr<size_t> ZipReader::Read(uint8_t* to, size_t bytes) {
  constexpr size_t kMaxChunk = 1 << 30;
  size_t done = 0;
  while (done < bytes) {
    const int got = unzReadCurrentFile(zip_, to + done, static_cast<unsigned>(std::min(bytes - done, kMaxChunk)));
    if (got < 0) return Damaged("the packed data are not valid or are cut off");
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

absl::Status ZipReader::CloseMember() {
  const int code = unzCloseCurrentFile(zip_);
  const absl::Status damaged = Damaged("its checksum is wrong");
  member_.clear();
  return code == UNZ_OK ? absl::OkStatus() : damaged;
}

}  // namespace lockstep
