// SPDX-License-Identifier: Apache-2.0
#include "common/formats/csv.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {
constexpr int kEnd = -1;
constexpr size_t kBufferBytes = 1 << 16;
constexpr const char* kByteOrderMark = "\xEF\xBB\xBF";
}  // namespace

CsvReader::CsvReader(int fd, std::string name) : fd_(fd), name_(std::move(name)), buffer_(kBufferBytes) {
  failed_ = lseek(fd_, 0, SEEK_SET) < 0;
}

int CsvReader::Peek() {
  if (begin_ == end_) {
    ssize_t got = 0;
    do {
      got = failed_ ? 0 : read(fd_, buffer_.data(), buffer_.size());
    } while (got < 0 && errno == EINTR);
    failed_ = failed_ || got < 0;
    begin_ = 0;
    end_ = got > 0 ? static_cast<size_t>(got) : 0;
    if (end_ == 0) return kEnd;
  }
  return static_cast<unsigned char>(buffer_[begin_]);
}

int CsvReader::Get() {
  const int c = Peek();
  if (c == kEnd) return c;
  ++begin_;
  ++row_bytes_;
  if (c == '\n') ++line_;
  return c;
}

std::string CsvReader::Place() const {
  return absl::StrCat(name_, row_ <= 0 ? ": header" : absl::StrCat(": row ", row_), " (line ", row_line_, ")");
}

absl::Status CsvReader::Bad(const std::string& what) const {
  return absl::InvalidArgumentError(absl::StrCat(Place(), ", column ", column_ + 1, ": ", what));
}

absl::Status CsvReader::Append(std::string& cell, int c) {
  if (row_bytes_ > kMaxCsvRowBytes) return Bad("the row is longer than 1 MiB; is a quote not closed?");
  if (c == 0) return Bad("contains a NUL byte; is this a text file?");
  cell.push_back(static_cast<char>(c));
  return absl::OkStatus();
}

absl::Status CsvReader::ReadQuoted(std::string& cell) {
  while (true) {
    const int c = Get();
    if (c == kEnd) return Bad("the quote is not closed before the file ends");
    if (c == '"') {
      if (Peek() != '"') return absl::OkStatus();
      Get();
    }
    LOCKSTEP_RETURN_IF_ERROR(Append(cell, c));
  }
}

absl::Status CsvReader::ReadCell(std::string& cell, bool& end_of_row) {
  cell.clear();
  end_of_row = false;
  const bool quoted = Peek() == '"';
  if (quoted) {
    Get();
    LOCKSTEP_RETURN_IF_ERROR(ReadQuoted(cell));
  }
  while (true) {
    int c = Get();
    if (c == ',') return absl::OkStatus();
    if (c == '\r' && Peek() == '\n') c = Get();
    if (c == '\n' || c == kEnd) {
      end_of_row = true;
      return absl::OkStatus();
    }
    if (quoted) return Bad("text after the closing quote; double a quote that belongs to the text");
    if (c == '"') return Bad("a quote inside a cell that is not quoted");
    LOCKSTEP_RETURN_IF_ERROR(Append(cell, c));
  }
}

absl::StatusOr<bool> CsvReader::Next(std::vector<std::string>& cells) {
  while (Peek() != kEnd) {
    row_line_ = line_;
    row_bytes_ = 0;
    column_ = 0;
    ++row_;
    bool end_of_row = false;
    while (!end_of_row) {
      if (column_ == kMaxCsvColumns) return Bad(absl::StrCat("more than ", kMaxCsvColumns, " columns"));
      if (cells.size() == column_) cells.emplace_back();
      LOCKSTEP_RETURN_IF_ERROR(ReadCell(cells[column_], end_of_row));
      ++column_;
    }
    if (failed_) break;
    cells.resize(column_);
    if (row_ == 0) cells[0] = std::string(absl::StripPrefix(cells[0], kByteOrderMark));
    if (cells.size() > 1 || !cells[0].empty()) return true;
    --row_;
  }
  if (failed_) return absl::DataLossError(absl::StrCat(name_, ": cannot be read to its end"));
  return false;
}

}  // namespace lockstep
