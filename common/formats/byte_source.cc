// SPDX-License-Identifier: Apache-2.0
#include "common/formats/byte_source.h"

#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {
constexpr size_t kBufferBytes = 1 << 18;
constexpr size_t kMaxChunk = 1 << 30;
// zlib: a window of 2^15 bytes, and 16 for the gzip format.
constexpr int kGzipWindow = 15 + 16;
}  // namespace

void ByteSource::InflateEnd::operator()(z_stream_s* stream) const {
  inflateEnd(stream);
  delete stream;
}

ByteSource::ByteSource(int fd, std::string name) : fd_(fd), name_(std::move(name)), buffer_(kBufferBytes) {
  if (lseek(fd_, 0, SEEK_SET) < 0) {
    status_ = absl::DataLossError(absl::StrCat(name_, ": ", std::strerror(errno)));
    return;
  }
  status_ = Fill();
  if (!status_.ok() || end_ < 2 || buffer_[0] != 0x1f || buffer_[1] != 0x8b) return;
  std::unique_ptr<z_stream_s> stream(new z_stream_s{});
  if (inflateInit2(stream.get(), kGzipWindow) != Z_OK) {
    status_ = absl::ResourceExhaustedError(absl::StrCat(name_, ": no memory to decompress it"));
    return;
  }
  zlib_.reset(stream.release());
}

ByteSource::~ByteSource() = default;

absl::Status ByteSource::Damaged(const std::string& why) const {
  return absl::DataLossError(absl::StrCat(name_, ": damaged: ", why));
}

absl::Status ByteSource::Fill() {
  if (begin_ < end_) return absl::OkStatus();
  begin_ = end_ = 0;
  ssize_t got = 0;
  do {
    got = read(fd_, buffer_.data(), buffer_.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0) return absl::DataLossError(absl::StrCat(name_, ": cannot be read: ", std::strerror(errno)));
  end_ = static_cast<size_t>(got);
  return absl::OkStatus();
}

absl::StatusOr<size_t> ByteSource::Read(uint8_t* to, size_t bytes) {
  LOCKSTEP_RETURN_IF_ERROR(status_);
  size_t done = 0;
  while (done < bytes) {
    size_t got = 0;
    if (compressed()) {
      LOCKSTEP_ASSIGN_OR_RETURN(got, Inflate(to + done, std::min(bytes - done, kMaxChunk)));
    } else {
      LOCKSTEP_RETURN_IF_ERROR(Fill());
      got = std::min(bytes - done, end_ - begin_);
      std::memcpy(to + done, buffer_.data() + begin_, got);
      begin_ += got;
    }
    if (got == 0) break;
    done += got;
  }
  return done;
}

absl::StatusOr<size_t> ByteSource::Inflate(uint8_t* to, size_t bytes) {
  zlib_->next_out = to;
  zlib_->avail_out = static_cast<uInt>(bytes);
  while (zlib_->avail_out == bytes) {
    LOCKSTEP_RETURN_IF_ERROR(Fill());
    if (stream_ended_) {
      if (begin_ == end_) return 0;
      // A gzip file may be several streams, one behind the other.
      if (buffer_[begin_] != 0x1f) return Damaged("bytes after the end of the compressed data");
      inflateReset(zlib_.get());
      stream_ended_ = false;
    }
    if (begin_ == end_) return Damaged("truncated: the compressed data are cut off");
    zlib_->next_in = buffer_.data() + begin_;
    zlib_->avail_in = static_cast<uInt>(end_ - begin_);
    const int code = inflate(zlib_.get(), Z_NO_FLUSH);
    begin_ = end_ - zlib_->avail_in;
    if (code == Z_STREAM_END) {
      stream_ended_ = true;
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      return Damaged(zlib_->msg != nullptr ? zlib_->msg : "not valid gzip data");
    }
  }
  return bytes - zlib_->avail_out;
}

}  // namespace lockstep
