// SPDX-License-Identifier: Apache-2.0
#include "common/model/csv_dataset.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <span>

#include "absl/strings/ascii.h"
#include "absl/strings/charconv.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/formats/csv.h"
#include "common/model/text.h"
#include "common/permutation.h"
#include "common/rng.h"

namespace lockstep {

namespace {

constexpr const char* kPathField = "dataset.csv.path";
constexpr double kDefaultTestFraction = 0.2;
constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

using Names = google::protobuf::RepeatedPtrField<std::string>;

// Places of the named columns.
std::vector<size_t> Find(const std::vector<std::string>& header, const Names& names, const std::string& field,
                         Violations& violations) {
  std::vector<size_t> places;
  for (int i = 0; i < names.size(); ++i) {
    const auto found = std::ranges::find(header, names[i]);
    const std::string item = absl::StrCat(field, "[", i, "]");
    if (found == header.end()) {
      violations.Add(item, absl::StrCat("the table has no column ", Quoted(names[i]), DidYouMean(names[i], header)));
    } else if (std::find(found + 1, header.end(), names[i]) != header.end()) {
      violations.Add(item, absl::StrCat("the table has two columns ", Quoted(names[i]), "; rename one in the file"));
    } else {
      places.push_back(static_cast<size_t>(found - header.begin()));
    }
  }
  return places;
}

CsvColumns Resolve(std::vector<std::string> header, const v1::CsvDataset& spec, Violations& violations) {
  for (std::string& name : header) absl::StripAsciiWhitespace(&name);
  CsvColumns columns{.header = std::move(header)};
  columns.targets = Find(columns.header, spec.target_columns(), "dataset.csv.target_columns", violations);
  columns.features = Find(columns.header, spec.feature_columns(), "dataset.csv.feature_columns", violations);
  if (!spec.feature_columns().empty()) return columns;
  const std::vector<size_t> ignored =
      Find(columns.header, spec.ignore_columns(), "dataset.csv.ignore_columns", violations);
  for (size_t i = 0; i < columns.header.size(); ++i) {
    const auto is = [&](const std::vector<size_t>& places) { return std::ranges::find(places, i) != places.end(); };
    if (!is(columns.targets) && !is(ignored)) columns.features.push_back(i);
  }
  if (columns.features.empty()) {
    violations.Add("dataset.csv.target_columns", "leaves no column to predict from");
  }
  return columns;
}

// A finite number that a float can hold; from_chars reads neither spaces nor a plus sign.
std::optional<double> ParseCell(absl::string_view text) {
  absl::ConsumePrefix(&text, "+");
  double value = 0;
  const auto [end, error] = absl::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return std::isfinite(static_cast<float>(value)) ? std::optional(value) : std::nullopt;
}

// Walks the rows of a table.
class Rows {
 public:
  Rows(int fd, const std::string& name, const v1::CsvDataset& spec) : reader_(fd, name), name_(name), spec_(spec) {}

  // False with a violation where the header does not fit the spec.
  bool Start(Violations& violations) {
    const size_t before = violations.count();
    const absl::StatusOr<bool> more = reader_.Next(cells_);
    if (!more.ok() || !*more) {
      violations.Add(kPathField, more.ok() ? absl::StrCat(name_, ": is empty; a table starts with a header line")
                                           : std::string(more.status().message()));
      return false;
    }
    columns_ = Resolve(cells_, spec_, violations);
    used_ = columns_.features;
    used_.insert(used_.end(), columns_.targets.begin(), columns_.targets.end());
    return violations.count() == before;
  }

  // The next usable row: features, then targets; kMissing for an empty cell. False at the end or where
  // something is wrong, which is then added.
  bool Next(std::vector<double>& values, Violations& violations) {
    while (true) {
      const absl::StatusOr<bool> more = reader_.Next(cells_);
      if (!more.ok()) violations.Add(kPathField, std::string(more.status().message()));
      if (!more.ok() || !*more) return false;
      if (cells_.size() != columns_.header.size()) {
        violations.Add(kPathField, absl::StrCat(reader_.Place(), ": has ", cells_.size(), " cells, but the header has ",
                                                columns_.header.size()));
        return false;
      }
      bool missing = false;
      values.clear();
      for (size_t place : used_) {
        if (!AddValue(place, values, violations)) return false;
        missing = missing || std::isnan(values.back());
      }
      if (!missing || spec_.missing_values() != v1::MISSING_VALUE_POLICY_DROP_ROWS) return true;
    }
  }

  const CsvColumns& columns() const { return columns_; }

 private:
  bool AddValue(size_t place, std::vector<double>& values, Violations& violations) {
    const absl::string_view cell = absl::StripAsciiWhitespace(cells_[place]);
    const std::string& column = columns_.header[place];
    if (cell.empty()) {
      values.push_back(kMissing);
      if (spec_.missing_values() == v1::MISSING_VALUE_POLICY_DROP_ROWS ||
          spec_.missing_values() == v1::MISSING_VALUE_POLICY_MEAN) {
        return true;
      }
      violations.Add(kPathField, absl::StrCat(reader_.Place(), ", column ", Quoted(column),
                                              ": the cell is empty; fill it in, or set missing_values to drop_rows or "
                                              "mean"));
      return false;
    }
    if (const std::optional<double> value = ParseCell(cell)) {
      values.push_back(*value);
      return true;
    }
    violations.Add(kPathField, absl::StrCat(reader_.Place(), ", column ", Quoted(column), ": ", Quoted(cell),
                                            " is not a number; mend the cell, or list the column in ignore_columns"));
    return false;
  }

  CsvReader reader_;
  const std::string& name_;
  const v1::CsvDataset& spec_;
  CsvColumns columns_;
  std::vector<size_t> used_;
  std::vector<std::string> cells_;
};

// Test rows of `rows`; 0 with a violation where a part would be empty.
int64_t TestRows(int64_t rows, const std::string& name, const v1::CsvDataset& spec, Violations& violations) {
  const double fraction = spec.has_test_fraction() ? spec.test_fraction() : kDefaultTestFraction;
  const int64_t test = fraction > 0 && fraction < 1 ? std::llround(fraction * static_cast<double>(rows)) : 0;
  if (test >= 1 && test < rows) return test;
  violations.Add(rows < 2 ? kPathField : "dataset.csv.test_fraction",
                 absl::StrCat(name, ": ", rows,
                              " usable rows cannot be split into training and test rows by the share ", fraction));
  return 0;
}

// Mean and standard deviation of each of `width` columns over the training rows.
struct Moments {
  std::vector<double> means;
  std::vector<double> stddevs;
};

// Replaces what is missing by the mean and measures the rest. `is_test` has one entry per row.
// False with the place of a column without any value in the training rows.
std::optional<size_t> FillAndMeasure(std::span<double> values, size_t width, const std::vector<bool>& is_test,
                                     Moments& moments) {
  moments.means.assign(width, 0);
  moments.stddevs.assign(width, 1);
  for (size_t column = 0; column < width; ++column) {
    double sum = 0, squares = 0;
    int64_t count = 0, train = 0;
    for (size_t row = 0; row < is_test.size(); ++row) {
      const double value = values[row * width + column];
      if (is_test[row] || std::isnan(value)) continue;
      sum += value;
      ++count;
    }
    if (count == 0) return column;
    const double mean = sum / static_cast<double>(count);
    for (size_t row = 0; row < is_test.size(); ++row) {
      double& value = values[row * width + column];
      if (std::isnan(value)) value = mean;
      if (is_test[row]) continue;
      squares += (value - mean) * (value - mean);
      ++train;
    }
    const double stddev = std::sqrt(squares / static_cast<double>(train));
    moments.means[column] = mean;
    // A column that never changes becomes zeros.
    moments.stddevs[column] = stddev > 0 ? stddev : 1;
  }
  return std::nullopt;
}

std::vector<bool> Split(int64_t rows, int64_t test, uint64_t seed) {
  const uint64_t key = seed ^ (static_cast<uint64_t>(RngPurpose::kSplit) << 56);
  const Permutation order(static_cast<uint64_t>(rows), key, 0);
  std::vector<bool> is_test(static_cast<size_t>(rows));
  for (int64_t row = 0; row < rows; ++row) {
    is_test[static_cast<size_t>(row)] = order(static_cast<uint64_t>(row)) < static_cast<uint64_t>(test);
  }
  return is_test;
}

absl::Status First(const Violations& violations) {
  return absl::InvalidArgumentError(violations.list().front().description);
}

void Unscaled(std::vector<double>& means, std::vector<double>& stddevs) {
  std::ranges::fill(means, 0.0);
  std::ranges::fill(stddevs, 1.0);
}

CsvTable Assemble(const std::vector<double>& values, size_t features, size_t targets, const std::vector<bool>& is_test,
                  Moments moments, const v1::CsvDataset& spec) {
  CsvTable table{.features = static_cast<int64_t>(features), .targets = static_cast<int64_t>(targets)};
  const auto middle = static_cast<std::ptrdiff_t>(features);
  table.feature_means.assign(moments.means.begin(), moments.means.begin() + middle);
  table.feature_stddevs.assign(moments.stddevs.begin(), moments.stddevs.begin() + middle);
  table.target_means.assign(moments.means.begin() + middle, moments.means.end());
  table.target_stddevs.assign(moments.stddevs.begin() + middle, moments.stddevs.end());
  if (!spec.standardize_features()) Unscaled(table.feature_means, table.feature_stddevs);
  if (!spec.standardize_targets()) Unscaled(table.target_means, table.target_stddevs);
  const auto scale = [&](double value, size_t column) {
    if (column < features) return (value - table.feature_means[column]) / table.feature_stddevs[column];
    return (value - table.target_means[column - features]) / table.target_stddevs[column - features];
  };
  const size_t width = features + targets;
  for (size_t row = 0; row < is_test.size(); ++row) {
    CsvPart& part = is_test[row] ? table.test : table.train;
    ++part.rows;
    for (size_t column = 0; column < width; ++column) {
      auto& to = column < features ? part.features : part.targets;
      to.push_back(static_cast<float>(scale(values[row * width + column], column)));
    }
  }
  return table;
}

}  // namespace

CsvCounts CountCsvRows(int fd, const std::string& name, const v1::CsvDataset& spec, Violations& violations) {
  CsvCounts counts;
  const size_t before = violations.count();
  Rows rows(fd, name, spec);
  if (!rows.Start(violations)) return counts;
  counts.columns = rows.columns();
  int64_t usable = 0;
  std::vector<double> values;
  while (rows.Next(values, violations)) ++usable;
  if (violations.count() != before) return counts;
  counts.test_rows = TestRows(usable, name, spec, violations);
  counts.train_rows = counts.test_rows == 0 ? 0 : usable - counts.test_rows;
  return counts;
}

absl::StatusOr<CsvTable> LoadCsvTable(int fd, const std::string& name, const v1::CsvDataset& spec, uint64_t seed) {
  Violations violations;
  Rows rows(fd, name, spec);
  if (!rows.Start(violations)) return First(violations);
  const size_t features = rows.columns().features.size();
  const size_t targets = rows.columns().targets.size();
  if (targets == 0) return absl::InvalidArgumentError("dataset.csv.target_columns is empty");
  std::vector<double> values, row;
  while (rows.Next(row, violations)) values.insert(values.end(), row.begin(), row.end());
  if (!violations.empty()) return First(violations);
  const int64_t count = static_cast<int64_t>(values.size() / (features + targets));
  const int64_t test = TestRows(count, name, spec, violations);
  if (!violations.empty()) return First(violations);
  const std::vector<bool> is_test = Split(count, test, seed);
  Moments moments;
  if (const auto column = FillAndMeasure(values, features + targets, is_test, moments)) {
    const size_t place =
        *column < features ? rows.columns().features[*column] : rows.columns().targets[*column - features];
    return absl::InvalidArgumentError(absl::StrCat(name, ": column ", Quoted(rows.columns().header[place]),
                                                   " has no value in any training row; leave the column out"));
  }
  return Assemble(values, features, targets, is_test, std::move(moments), spec);
}

}  // namespace lockstep
