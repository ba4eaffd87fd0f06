// SPDX-License-Identifier: Apache-2.0
// CSV as RFC 4180 has it: comma, optional double quotes (a quote inside is doubled; commas and line
// breaks may stand inside quotes), LF or CRLF, an optional UTF-8 byte order mark. Blank lines are
// skipped. Read row by row in bounded memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace lockstep {

inline constexpr size_t kMaxCsvRowBytes = 1 << 20;
inline constexpr size_t kMaxCsvColumns = 10'000;

class CsvReader {
 public:
  // Reads `fd` from its start; the caller keeps it open. `name` is used in messages.
  CsvReader(int fd, std::string name);

  // Fills `cells` with the next row; false at the end. INVALID_ARGUMENT for broken quoting or a row
  // over the limits, DATA_LOSS where the file cannot be read; both name the row and line.
  absl::StatusOr<bool> Next(std::vector<std::string>& cells);

  // "housing.csv: row 12 (line 13)": where the row of the last Next() is. Row 0 is the header.
  std::string Place() const;

 private:
  int Get();
  int Peek();
  absl::Status Bad(const std::string& what) const;
  // Reads one cell into `cell`; `end_of_row` tells whether the row ends behind it.
  absl::Status ReadCell(std::string& cell, bool& end_of_row);
  absl::Status ReadQuoted(std::string& cell);
  absl::Status Append(std::string& cell, int c);

  int fd_;
  std::string name_;
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  bool failed_ = false;
  int64_t row_ = -1;
  int64_t line_ = 1;
  // Line on which the current row starts.
  int64_t row_line_ = 1;
  size_t row_bytes_ = 0;
  size_t column_ = 0;
};

}  // namespace lockstep
