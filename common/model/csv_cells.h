// SPDX-License-Identifier: Apache-2.0
// The chosen columns of a CSV table as they are in the files: numbers, and text as indices.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// An empty cell.
inline constexpr double kMissingCell = std::numeric_limits<double>::quiet_NaN();
// Different texts of one column, and bytes of each.
inline constexpr size_t kMaxCategories = 10'000;
inline constexpr size_t kMaxCategoryBytes = 1024;
// Numbers of a table, 1 GiB as floats.
inline constexpr int64_t kMaxTableCells = int64_t{1} << 28;

struct CsvCellColumn {
  std::string name;
  bool text = false;
  bool target = false;
  // Of text: its values in the order in which they came first. A cell is the index of one.
  std::vector<std::string> values;
  std::map<std::string, size_t> index;
};

struct CsvCells {
  // Features first, then targets.
  std::vector<CsvCellColumn> columns;
  size_t features = 0;
  // [rows, columns]; kMissingCell where a cell is empty and the policy fills it.
  std::vector<double> cells;
  int64_t rows = 0;
};

// What is read of a table.
struct CsvChoice {
  // Empty: every column that is not named otherwise.
  std::vector<std::string> features;
  std::vector<std::string> targets;
  std::vector<std::string> ignored;
  // Feature columns that hold text; behind `features` where they are not among them.
  std::vector<std::string> text;
  // Targets hold text.
  bool text_targets = false;
  lockstep::v1::MissingValuePolicy missing = lockstep::v1::MISSING_VALUE_POLICY_UNSPECIFIED;
  // May be none, then only features are read.
  bool needs_targets = true;
};

// Reads files, in order, as one table. Of one thread; the files are read while Add runs.
class CsvCellReader {
 public:
  explicit CsvCellReader(CsvChoice choice) : choice_(std::move(choice)) {}

  // An open file; `name` is used in messages, which name the row (the header is row 1) and column. Its
  // header line must be the first file's.
  absl::Status Add(int fd, const std::string& name);
  const CsvCells& cells() const { return cells_; }

 private:
  absl::Status Header(const std::vector<std::string>& header, const std::string& name);
  absl::StatusOr<std::vector<size_t>> Find(const std::vector<std::string>& columns, const std::string& name) const;
  void Use(size_t column, bool text, bool target);
  absl::Status Row(int64_t row, const std::vector<std::string>& text, const std::string& name);
  absl::StatusOr<double> Cell(CsvCellColumn& column, const std::string& cell) const;

  const CsvChoice choice_;
  // Of the first file.
  std::string first_name_;
  std::vector<std::string> header_;
  // For each of the cells' columns, that of the file.
  std::vector<size_t> places_;
  CsvCells cells_;
};

}  // namespace lockstep
