// SPDX-License-Identifier: Apache-2.0
#include "common/model/csv_cells.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/formats/csv.h"
#include "common/model/names.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

constexpr size_t kMaxShown = 64;
constexpr size_t kMaxShownColumns = 50;

std::string Shown(const std::string& text) { return absl::Utf8SafeCHexEscape(text.substr(0, kMaxShown)); }

bool Contains(const std::vector<size_t>& columns, size_t column) { return std::ranges::count(columns, column) > 0; }

}  // namespace

absl::Status CsvCellReader::Add(int fd, const std::string& name) {
  bool first_row = true;
  LOCKSTEP_RETURN_IF_ERROR(ReadCsv(fd, name, [&](int64_t row, const std::vector<std::string>& text) {
    return std::exchange(first_row, false) ? Header(text, name) : Row(row, text, name);
  }));
  if (first_row) return absl::InvalidArgumentError(absl::StrCat(name, ": has no header line"));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<size_t>> CsvCellReader::Find(const std::vector<std::string>& columns,
                                                        const std::string& name) const {
  std::vector<size_t> places;
  for (const std::string& column : columns) {
    const auto found = std::ranges::find(header_, column);
    if (found == header_.end()) {
      std::vector<std::string> known(header_.begin(), header_.begin() + std::min(header_.size(), kMaxShownColumns));
      for (std::string& one : known) one = Shown(one);
      return absl::InvalidArgumentError(absl::StrCat(name, ": no column \"", column, "\"", DidYouMean(column, known),
                                                     " The file has: ", absl::StrJoin(known, ", "),
                                                     header_.size() > kMaxShownColumns ? ", ..." : ""));
    }
    if (std::find(found + 1, header_.end(), column) != header_.end()) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": two columns are called \"", column, "\"; rename one"));
    }
    places.push_back(static_cast<size_t>(found - header_.begin()));
  }
  return places;
}

void CsvCellReader::Use(size_t column, bool text, bool target) {
  places_.push_back(column);
  cells_.columns.push_back({.name = header_[column], .text = text, .target = target});
}

absl::Status CsvCellReader::Header(const std::vector<std::string>& header, const std::string& name) {
  if (!header_.empty()) {
    if (header == header_) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(name, ": its header line is not that of ", first_name_));
  }
  header_ = header;
  first_name_ = name;
  if (choice_.needs_targets && choice_.targets.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": target_columns is empty; name at least one column"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<size_t> targets, Find(choice_.targets, name));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<size_t> ignored, Find(choice_.ignored, name));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<size_t> text, Find(choice_.text, name));
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<size_t> features, Find(choice_.features, name));
  if (features.empty()) {
    for (size_t i = 0; i < header.size(); ++i) {
      if (!Contains(targets, i) && !Contains(ignored, i)) features.push_back(i);
    }
  }
  for (size_t column : text) {
    if (!Contains(features, column)) features.push_back(column);
  }
  for (size_t column : features) {
    if (Contains(targets, column)) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": \"", Shown(header[column]), "\" is both a feature and a target"));
    }
    if (!IsUtf8(header[column])) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": the name of column ", column + 1, ", \"",
                                                     absl::CHexEscape(header[column].substr(0, kMaxShown)),
                                                     "\", is not UTF-8 text; convert the file"));
    }
    Use(column, Contains(text, column), /*target=*/false);
  }
  if (features.empty()) return absl::InvalidArgumentError(absl::StrCat(name, ": no feature column is left"));
  cells_.features = features.size();
  for (size_t column : targets) Use(column, choice_.text_targets, /*target=*/true);
  return absl::OkStatus();
}

absl::StatusOr<double> CsvCellReader::Cell(CsvCellColumn& column, const std::string& cell) const {
  if (cell.empty()) {
    // A target is never made up.
    if (!column.target && choice_.missing == v1::MISSING_VALUE_POLICY_MEAN) return kMissingCell;
    return absl::InvalidArgumentError(
        absl::StrCat("the cell is empty; set missing_values to DROP_ROWS", column.target ? "" : " or MEAN"));
  }
  if (!column.text) {
    double value = 0;
    if (absl::SimpleAtod(cell, &value) && std::isfinite(static_cast<float>(value))) return value;
    return absl::InvalidArgumentError(absl::StrCat("\"", Shown(cell), "\" is not a number; ",
                                                   column.target
                                                       ? "set classify_target where it names a class"
                                                       : "name text columns in categorical_columns or ignore_columns"));
  }
  if (const auto known = column.index.find(cell); known != column.index.end()) {
    return static_cast<double>(known->second);
  }
  if (cell.size() > kMaxCategoryBytes || !IsUtf8(cell)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", absl::CHexEscape(cell.substr(0, kMaxShown)),
                                                   "\" is not UTF-8 text of at most ", kMaxCategoryBytes, " bytes"));
  }
  if (column.values.size() >= kMaxCategories) {
    return absl::InvalidArgumentError(absl::StrCat("more than ", kMaxCategories,
                                                   " different values; a column that is another in each row is no "
                                                   "category: name it in ignore_columns"));
  }
  column.index[cell] = column.values.size();
  column.values.push_back(cell);
  return static_cast<double>(column.values.size() - 1);
}

absl::Status CsvCellReader::Row(int64_t row, const std::vector<std::string>& text, const std::string& name) {
  if (choice_.missing == v1::MISSING_VALUE_POLICY_DROP_ROWS &&
      std::ranges::any_of(places_, [&](size_t place) { return text[place].empty(); })) {
    return absl::OkStatus();
  }
  for (size_t i = 0; i < places_.size(); ++i) {
    const absl::StatusOr<double> value = Cell(cells_.columns[i], text[places_[i]]);
    if (!value.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": row ", row, ", column \"", cells_.columns[i].name, "\": ", value.status().message()));
    }
    cells_.cells.push_back(*value);
  }
  if (static_cast<int64_t>(cells_.cells.size()) > kMaxTableCells) {
    return absl::ResourceExhaustedError(
        absl::StrCat(name, ": more than ", kMaxTableCells, " numbers; save so much as .npy"));
  }
  ++cells_.rows;
  return absl::OkStatus();
}

}  // namespace lockstep
