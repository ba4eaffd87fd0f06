// SPDX-License-Identifier: Apache-2.0
#include "common/model/csv_dataset.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/formats/csv.h"
#include "common/model/names.h"
#include "common/permutation.h"
#include "common/rng.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();
constexpr double kDefaultTestFraction = 0.2;
constexpr int64_t kMaxCells = int64_t{1} << 31;

// Features first, then targets; row-major.
struct Cells {
  std::vector<size_t> columns;
  std::vector<std::string> names;
  size_t features = 0;
  std::vector<double> values;
  int64_t rows = 0;
};

absl::StatusOr<size_t> Find(const std::vector<std::string>& header, const std::string& column,
                            const std::string& name) {
  const auto found = std::ranges::find(header, column);
  if (found != header.end() && std::find(found + 1, header.end(), column) != header.end()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": two columns are called \"", column, "\"; rename one"));
  }
  if (found != header.end()) return static_cast<size_t>(found - header.begin());
  return absl::InvalidArgumentError(absl::StrCat(name, ": no column \"", column, "\"", DidYouMean(column, header),
                                                 " The file has: ", absl::StrJoin(header, ", ")));
}

absl::Status ChooseColumns(const std::vector<std::string>& header, const v1::CsvDataset& spec, const std::string& name,
                           Cells& cells) {
  if (spec.target_columns().empty()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": target_columns is empty; name at least one column"));
  }
  std::vector<size_t> targets, left_out;
  for (const std::string& column : spec.target_columns()) {
    LOCKSTEP_ASSIGN_OR_RETURN(const size_t index, Find(header, column, name));
    targets.push_back(index);
  }
  for (const std::string& column : spec.ignore_columns()) {
    LOCKSTEP_ASSIGN_OR_RETURN(const size_t index, Find(header, column, name));
    left_out.push_back(index);
  }
  for (const std::string& column : spec.feature_columns()) {
    LOCKSTEP_ASSIGN_OR_RETURN(const size_t index, Find(header, column, name));
    if (std::ranges::count(targets, index) > 0) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": \"", column, "\" is both a feature and a target"));
    }
    cells.columns.push_back(index);
  }
  if (spec.feature_columns().empty()) {
    for (size_t i = 0; i < header.size(); ++i) {
      if (std::ranges::count(targets, i) == 0 && std::ranges::count(left_out, i) == 0) cells.columns.push_back(i);
    }
  }
  if (cells.columns.empty()) return absl::InvalidArgumentError(absl::StrCat(name, ": no feature column is left"));
  cells.features = cells.columns.size();
  cells.columns.insert(cells.columns.end(), targets.begin(), targets.end());
  for (size_t column : cells.columns) cells.names.push_back(header[column]);
  return absl::OkStatus();
}

absl::Status AddRow(int64_t row, const std::vector<std::string>& text, const v1::CsvDataset& spec,
                    const std::string& name, Cells& cells) {
  const size_t before = cells.values.size();
  for (size_t i = 0; i < cells.columns.size(); ++i) {
    const std::string& cell = text[cells.columns[i]];
    const auto place = [&] { return absl::StrCat(name, ": row ", row, ", column \"", cells.names[i], "\""); };
    double value = kMissing;
    const bool target = i >= cells.features;
    if (cell.empty() && spec.missing_values() == v1::MISSING_VALUE_POLICY_DROP_ROWS) {
      cells.values.resize(before);
      return absl::OkStatus();
    }
    // A target is never made up.
    if (cell.empty() && (target || spec.missing_values() != v1::MISSING_VALUE_POLICY_MEAN)) {
      return absl::InvalidArgumentError(
          absl::StrCat(place(), ": the cell is empty; set missing_values to DROP_ROWS", target ? "" : " or MEAN"));
    }
    if (!cell.empty() && (!absl::SimpleAtod(cell, &value) || !std::isfinite(static_cast<float>(value)))) {
      return absl::InvalidArgumentError(
          absl::StrCat(place(), ": \"", cell.substr(0, 64), "\" is not a number; name text columns in ignore_columns"));
    }
    cells.values.push_back(value);
  }
  if (static_cast<int64_t>(cells.values.size()) > kMaxCells) {
    return absl::ResourceExhaustedError(absl::StrCat(name, ": more than ", kMaxCells, " numbers"));
  }
  ++cells.rows;
  return absl::OkStatus();
}

struct Statistics {
  std::vector<double> mean, stddev;
};

// The name of a column without any value in the training rows, or null: no mean can fill its gaps.
const std::string* EmptyColumn(const Cells& cells, const std::vector<bool>& is_test) {
  const size_t width = cells.columns.size();
  for (size_t j = 0; j < width; ++j) {
    bool found = false;
    for (int64_t i = 0; i < cells.rows && !found; ++i) found = !is_test[i] && !std::isnan(cells.values[i * width + j]);
    if (!found) return &cells.names[j];
  }
  return nullptr;
}

// Over the training rows, missing cells left out; the population's standard deviation, 1 where a column
// does not vary.
Statistics Measure(const Cells& cells, const std::vector<bool>& is_test) {
  const size_t width = cells.columns.size();
  Statistics s{std::vector<double>(width), std::vector<double>(width, 1.0)};
  for (size_t j = 0; j < width; ++j) {
    double sum = 0, squares = 0, count = 0;
    for (int64_t i = 0; i < cells.rows; ++i) {
      const double v = cells.values[i * width + j];
      if (is_test[i] || std::isnan(v)) continue;
      sum += v;
      ++count;
    }
    if (count == 0) continue;
    s.mean[j] = sum / count;
    for (int64_t i = 0; i < cells.rows; ++i) {
      const double v = cells.values[i * width + j];
      if (is_test[i] || std::isnan(v)) continue;
      squares += (v - s.mean[j]) * (v - s.mean[j]);
    }
    if (squares > 0) s.stddev[j] = std::sqrt(squares / count);
  }
  return s;
}

std::vector<bool> Split(int64_t rows, double fraction, uint64_t seed) {
  std::vector<bool> is_test(static_cast<size_t>(rows));
  if (rows == 0) return is_test;
  const auto n_test = static_cast<uint64_t>(std::llround(fraction * static_cast<double>(rows)));
  const Permutation order(static_cast<uint64_t>(rows), seed ^ static_cast<uint64_t>(RngPurpose::kSplit) << 56, 0);
  for (int64_t i = 0; i < rows; ++i) is_test[i] = order(static_cast<uint64_t>(i)) < n_test;
  return is_test;
}

void Distribute(const Cells& cells, const std::vector<bool>& is_test, const Statistics& statistics,
                const v1::CsvDataset& spec, CsvTable& table) {
  const size_t width = cells.columns.size();
  for (int64_t i = 0; i < cells.rows; ++i) {
    CsvPart& part = is_test[i] ? table.test : table.train;
    ++part.rows;
    for (size_t j = 0; j < width; ++j) {
      const bool target = j >= cells.features;
      double v = cells.values[i * width + j];
      if (std::isnan(v)) v = statistics.mean[j];
      if (target ? spec.standardize_targets() : spec.standardize_features()) {
        v = (v - statistics.mean[j]) / statistics.stddev[j];
      }
      (target ? part.targets : part.features).push_back(static_cast<float>(v));
    }
  }
}

}  // namespace

absl::StatusOr<CsvTable> LoadCsvTable(int fd, const std::string& name, const v1::CsvDataset& spec, uint64_t seed) {
  const double fraction = spec.has_test_fraction() ? spec.test_fraction() : kDefaultTestFraction;
  if (!(fraction > 0 && fraction < 1)) {
    return absl::InvalidArgumentError(absl::StrCat("test_fraction is ", fraction, "; must be between 0 and 1"));
  }
  Cells cells;
  LOCKSTEP_RETURN_IF_ERROR(ReadCsv(fd, name, [&](int64_t row, const std::vector<std::string>& text) {
    return cells.columns.empty() ? ChooseColumns(text, spec, name, cells) : AddRow(row, text, spec, name, cells);
  }));
  const std::vector<bool> is_test = Split(cells.rows, fraction, seed);
  const Statistics statistics = Measure(cells, is_test);
  CsvTable table;
  table.features = static_cast<int64_t>(cells.features);
  table.targets = static_cast<int64_t>(cells.columns.size() - cells.features);
  Distribute(cells, is_test, statistics, spec, table);
  if (table.train.rows == 0 || table.test.rows == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": ", cells.rows, " usable rows are too few to hold out ", fraction, " of them"));
  }
  if (const std::string* column = EmptyColumn(cells, is_test)) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": column \"", *column, "\" has no value in any training row; name it in ignore_columns"));
  }
  const auto part = [&](const std::vector<double>& v, bool target) {
    const auto middle = v.begin() + table.features;
    return target ? std::vector<double>(middle, v.end()) : std::vector<double>(v.begin(), middle);
  };
  if (spec.standardize_features()) {
    table.feature_mean = part(statistics.mean, false);
    table.feature_stddev = part(statistics.stddev, false);
  }
  if (spec.standardize_targets()) {
    table.target_mean = part(statistics.mean, true);
    table.target_stddev = part(statistics.stddev, true);
  }
  return table;
}

}  // namespace lockstep
