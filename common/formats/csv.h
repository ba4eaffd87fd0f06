// SPDX-License-Identifier: Apache-2.0
// CSV after RFC 4180: comma, optional double quotes, LF or CRLF, a header line.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace lockstep {

// Rows of at most 1 MiB and 10,000 columns.
inline constexpr size_t kMaxCsvRowBytes = 1 << 20;
inline constexpr size_t kMaxCsvColumns = 10'000;

// Called for each row, the header first (row 1). The cells live until it returns. A row has as many
// cells as the header, or reading stops with an error that names it.
using CsvRowFunction = std::function<absl::Status(int64_t row, const std::vector<std::string>& cells)>;

// Reads an open file from its start; `name` is used in messages. Empty lines are passed over.
absl::Status ReadCsv(int fd, const std::string& name, const CsvRowFunction& on_row);

}  // namespace lockstep
