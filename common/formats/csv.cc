// SPDX-License-Identifier: Apache-2.0
#include "common/formats/csv.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace lockstep {

namespace {

constexpr size_t kBlock = 1 << 16;

// Takes bytes, gives rows.
class Splitter {
 public:
  Splitter(const std::string& name, const CsvRowFunction& on_row) : name_(name), on_row_(on_row) {}

  absl::Status Take(char c) {
    if (++row_bytes_ > kMaxCsvRowBytes) return Bad("is longer than 1 MiB; is a quote never closed?");
    if (quoted_) {
      if (c == '"') {
        quoted_ = false;
        after_quote_ = true;
      } else {
        cell_ += c;
      }
      return absl::OkStatus();
    }
    if (c == '"') {
      // A doubled quote inside quotes is one quote.
      if (after_quote_) cell_ += '"';
      if (!after_quote_ && !cell_.empty()) return Bad("has a quote inside an unquoted cell");
      quoted_ = true;
      after_quote_ = false;
      was_quoted_ = true;
      return absl::OkStatus();
    }
    // A carriage return only stands before a line feed.
    if (std::exchange(after_return_, c == '\r') && c != '\n') return Bad("has a carriage return inside a line");
    if (c == '\r') return absl::OkStatus();
    if (c == '\n') return EndRow();
    if (c == '\0') return Bad("contains a NUL byte; is this a text file?");
    if (c == ',') {
      after_quote_ = false;
      return EndCell();
    }
    if (after_quote_) return Bad("has text behind a closing quote");
    cell_ += c;
    return absl::OkStatus();
  }

  absl::Status Finish() {
    if (quoted_) return Bad("ends inside quotes");
    return EndRow();
  }

 private:
  absl::Status Bad(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(name_, ": row ", row_, " ", what));
  }

  absl::Status EndCell() {
    if (cells_.size() >= kMaxCsvColumns) return Bad(absl::StrCat("has more than ", kMaxCsvColumns, " columns"));
    cells_.push_back(cell_);
    cell_.clear();
    return absl::OkStatus();
  }

  absl::Status EndRow() {
    after_quote_ = false;
    row_bytes_ = 0;
    if (cells_.empty() && cell_.empty() && !was_quoted_) {
      ++row_;
      return absl::OkStatus();
    }
    was_quoted_ = false;
    if (absl::Status s = EndCell(); !s.ok()) return s;
    if (columns_ == 0) {
      columns_ = cells_.size();
      // What some programs put at the start of a UTF-8 file.
      if (absl::StartsWith(cells_[0], "\xEF\xBB\xBF")) cells_[0].erase(0, 3);
    }
    if (cells_.size() != columns_) {
      return Bad(absl::StrCat("has ", cells_.size(), " cells, the header has ", columns_));
    }
    absl::Status status = on_row_(row_, cells_);
    cells_.clear();
    ++row_;
    return status;
  }

  const std::string& name_;
  const CsvRowFunction& on_row_;
  int64_t row_ = 1;
  size_t columns_ = 0;
  size_t row_bytes_ = 0;
  std::string cell_;
  std::vector<std::string> cells_;
  bool quoted_ = false;
  bool after_quote_ = false;
  bool was_quoted_ = false;
  bool after_return_ = false;
};

}  // namespace

absl::Status ReadCsv(int fd, const std::string& name, const CsvRowFunction& on_row) {
  Splitter splitter(name, on_row);
  std::vector<char> block(kBlock);
  off_t at = 0;
  for (;;) {
    const ssize_t got = pread(fd, block.data(), block.size(), at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::DataLossError(absl::StrCat(name, ": cannot be read"));
    if (got == 0) return splitter.Finish();
    at += got;
    for (ssize_t i = 0; i < got; ++i) {
      if (absl::Status s = splitter.Take(block[i]); !s.ok()) return s;
    }
  }
}

}  // namespace lockstep
