// SPDX-License-Identifier: Apache-2.0
#include "common/model/csv_dataset.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/formats/safe_path.h"
#include "common/model/csv_cells.h"
#include "common/model/split.h"
#include "common/status_macros.h"

namespace lockstep {

namespace {

constexpr double kDefaultTestFraction = 0.2;

CsvChoice ChoiceOf(const v1::CsvDataset& spec) {
  const auto list = [](const auto& names) { return std::vector<std::string>(names.begin(), names.end()); };
  return {.features = list(spec.feature_columns()),
          .targets = list(spec.target_columns()),
          .ignored = list(spec.ignore_columns()),
          .text = list(spec.categorical_columns()),
          .text_targets = spec.classify_target(),
          .missing = spec.missing_values()};
}

// What is worked out from the training rows.
class Fitter {
 public:
  Fitter(const CsvCells& cells, const std::vector<bool>& is_test) : cells_(cells), is_test_(is_test) {}

  // nullopt where the column has no value in any training row: no mean can fill its gaps.
  std::optional<ColumnPreprocessing> Fit(size_t column, bool standardized) const {
    const CsvCellColumn& source = cells_.columns[column];
    ColumnPreprocessing fit{.name = source.name, .standardized = standardized && !source.text};
    const bool found = source.text ? FitText(column, fit) : FitNumber(column, fit);
    return found ? std::optional(std::move(fit)) : std::nullopt;
  }

 private:
  template <typename Function>
  void EachTrainingValue(size_t column, const Function& function) const {
    const size_t width = cells_.columns.size();
    for (int64_t i = 0; i < cells_.rows; ++i) {
      const double value = cells_.cells[i * width + column];
      if (!is_test_[i] && !std::isnan(value)) function(value);
    }
  }

  // The population's standard deviation, 1 where a column does not vary.
  bool FitNumber(size_t column, ColumnPreprocessing& fit) const {
    double sum = 0, squares = 0, count = 0;
    EachTrainingValue(column, [&](double v) {
      sum += v;
      ++count;
    });
    if (count == 0) return false;
    const double mean = sum / count;
    EachTrainingValue(column, [&](double v) { squares += (v - mean) * (v - mean); });
    fit.mean = {mean};
    fit.stddev = {squares > 0 ? std::sqrt(squares / count) : 1.0};
    return true;
  }

  bool FitText(size_t column, ColumnPreprocessing& fit) const {
    const std::vector<std::string>& values = cells_.columns[column].values;
    std::vector<double> counts(values.size());
    double all = 0;
    EachTrainingValue(column, [&](double v) {
      ++counts[static_cast<size_t>(v)];
      ++all;
    });
    // The index is in the order of the values' bytes.
    for (const auto& [value, at] : cells_.columns[column].index) {
      if (counts[at] == 0) continue;
      const double share = counts[at] / all;
      fit.categories.push_back(value);
      fit.mean.push_back(share);
      fit.stddev.push_back(std::sqrt(share * (1 - share)));
      if (share == 1) fit.stddev.back() = 1;
    }
    return all > 0;
  }

  const CsvCells& cells_;
  const std::vector<bool>& is_test_;
};

// Whole numbers are classes in their order, else the values in the order of their bytes.
std::vector<std::string> ClassesOf(const CsvCellColumn& column) {
  std::vector<std::pair<int64_t, std::string>> numbers;
  std::vector<std::string> names;
  for (const auto& [value, at] : column.index) {
    int64_t number = 0;
    if (absl::SimpleAtoi(value, &number)) numbers.push_back({number, value});
    names.push_back(value);
  }
  if (numbers.size() < names.size()) return names;
  std::ranges::sort(numbers);
  for (size_t i = 0; i < names.size(); ++i) names[i] = numbers[i].second;
  return names;
}

// Where each value of a text column is in `names`; -1: nowhere.
std::vector<int32_t> PlacesOf(const CsvCellColumn& column, const std::vector<std::string>& names) {
  std::vector<int32_t> places(column.values.size(), -1);
  for (size_t i = 0; i < names.size(); ++i) {
    const auto found = column.index.find(names[i]);
    if (found != column.index.end()) places[found->second] = static_cast<int32_t>(i);
  }
  return places;
}

// Cells to what the model sees.
class Encoder {
 public:
  Encoder(const CsvCells& cells, const TablePreprocessing& preprocessing)
      : cells_(cells), preprocessing_(preprocessing) {
    for (size_t j = 0; j < preprocessing.features.size(); ++j) {
      places_.push_back(PlacesOf(cells.columns[j], preprocessing.features[j].categories));
    }
    if (cells.columns.size() > cells.features && !preprocessing.classes.empty()) {
      class_places_ = PlacesOf(cells.columns[cells.features], preprocessing.classes);
    }
  }

  void Add(int64_t row, CsvPart& part) const {
    const double* cells = cells_.cells.data() + row * static_cast<int64_t>(cells_.columns.size());
    for (size_t j = 0; j < cells_.columns.size(); ++j) {
      if (j < cells_.features) {
        AddFeature(cells[j], preprocessing_.features[j], places_[j], part.features);
      } else if (class_places_.empty()) {
        AddFeature(cells[j], preprocessing_.targets[j - cells_.features], {}, part.targets);
      } else {
        part.labels.push_back(class_places_[static_cast<size_t>(cells[j])]);
      }
    }
    ++part.rows;
  }

 private:
  static void AddFeature(double cell, const ColumnPreprocessing& column, const std::vector<int32_t>& places,
                         std::vector<float>& to) {
    for (size_t k = 0; k < column.width(); ++k) {
      double v = cell;
      if (std::isnan(cell)) {
        v = column.mean[k];
      } else if (!column.categories.empty()) {
        v = places[static_cast<size_t>(cell)] == static_cast<int32_t>(k) ? 1 : 0;
      }
      if (column.standardized) v = (v - column.mean[k]) / column.stddev[k];
      to.push_back(static_cast<float>(v));
    }
  }

  const CsvCells& cells_;
  const TablePreprocessing& preprocessing_;
  std::vector<std::vector<int32_t>> places_;
  std::vector<int32_t> class_places_;
};

int64_t WidthOf(const std::vector<ColumnPreprocessing>& columns) {
  int64_t width = 0;
  for (const ColumnPreprocessing& column : columns) width += static_cast<int64_t>(column.width());
  return width;
}

absl::Status CheckWidth(const CsvCells& cells, int64_t width, const std::string& name) {
  int64_t numbers = 0;
  if (!__builtin_mul_overflow(cells.rows, width, &numbers) && numbers <= kMaxTableCells) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(name, ": ", cells.rows, " rows of ", width,
                                                   " features are more than ", kMaxTableCells,
                                                   " numbers; leave text columns of many values out"));
}

absl::StatusOr<CsvTable> MakeTable(const CsvCells& cells, const std::string& name, const v1::CsvDataset& spec,
                                   double fraction, uint64_t seed) {
  const std::vector<bool> is_test = HeldOut(cells.rows, fraction, seed);
  const int64_t held_out = HeldOutCount(cells.rows, fraction);
  if (held_out == 0 || held_out == cells.rows) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": ", cells.rows, " usable rows are too few to hold out ", fraction, " of them"));
  }
  CsvTable table;
  TablePreprocessing& p = table.preprocessing;
  p.fill_missing = spec.missing_values() == v1::MISSING_VALUE_POLICY_MEAN;
  const Fitter fitter(cells, is_test);
  for (size_t j = 0; j < cells.columns.size(); ++j) {
    const bool target = j >= cells.features;
    if (target && spec.classify_target()) {
      p.classes = ClassesOf(cells.columns[j]);
      p.class_column = cells.columns[j].name;
      continue;
    }
    auto fit = fitter.Fit(j, target ? spec.standardize_targets() : spec.standardize_features());
    if (!fit) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": column \"", cells.columns[j].name,
                                                     "\" has no value in any training row; name it in ignore_columns"));
    }
    (target ? p.targets : p.features).push_back(*std::move(fit));
  }
  table.features = WidthOf(p.features);
  table.targets = p.classes.empty() ? WidthOf(p.targets) : 1;
  LOCKSTEP_RETURN_IF_ERROR(CheckWidth(cells, table.features, name));
  const Encoder encoder(cells, p);
  for (int64_t i = 0; i < cells.rows; ++i) encoder.Add(i, is_test[i] ? table.test : table.train);
  return table;
}

absl::StatusOr<double> FractionOf(const v1::CsvDataset& spec) {
  const double fraction = spec.has_test_fraction() ? spec.test_fraction() : kDefaultTestFraction;
  if (fraction > 0 && fraction < 1) return fraction;
  return absl::InvalidArgumentError(absl::StrCat("test_fraction is ", fraction, "; must be between 0 and 1"));
}

}  // namespace

absl::StatusOr<CsvTable> LoadCsvTable(const v1::CsvDataset& spec, const std::vector<std::string>& data_roots,
                                      uint64_t seed) {
  LOCKSTEP_ASSIGN_OR_RETURN(const double fraction, FractionOf(spec));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ExpandUnderRoots(spec.path(), data_roots));
  CsvCellReader reader(ChoiceOf(spec));
  std::string name = spec.path();
  for (const std::string& path : paths) {
    LOCKSTEP_ASSIGN_OR_RETURN(const File file, OpenUnderRoots(path, data_roots));
    if (paths.size() == 1) name = file.path();
    LOCKSTEP_RETURN_IF_ERROR(reader.Add(file.fd(), file.path()));
  }
  return MakeTable(reader.cells(), name, spec, fraction, seed);
}

absl::StatusOr<CsvTable> LoadCsvTable(int fd, const std::string& name, const v1::CsvDataset& spec, uint64_t seed) {
  LOCKSTEP_ASSIGN_OR_RETURN(const double fraction, FractionOf(spec));
  CsvCellReader reader(ChoiceOf(spec));
  LOCKSTEP_RETURN_IF_ERROR(reader.Add(fd, name));
  return MakeTable(reader.cells(), name, spec, fraction, seed);
}

absl::StatusOr<CsvPart> ApplyPreprocessing(int fd, const std::string& name, const TablePreprocessing& preprocessing,
                                           bool with_targets) {
  CsvChoice choice{.text_targets = !preprocessing.classes.empty(), .needs_targets = false};
  choice.missing = preprocessing.fill_missing ? v1::MISSING_VALUE_POLICY_MEAN : v1::MISSING_VALUE_POLICY_REFUSE;
  for (const ColumnPreprocessing& column : preprocessing.features) {
    choice.features.push_back(column.name);
    if (!column.categories.empty()) choice.text.push_back(column.name);
  }
  if (with_targets) {
    for (const ColumnPreprocessing& column : preprocessing.targets) choice.targets.push_back(column.name);
    if (choice.text_targets) choice.targets = {preprocessing.class_column};
  }
  CsvCellReader reader(std::move(choice));
  LOCKSTEP_RETURN_IF_ERROR(reader.Add(fd, name));
  LOCKSTEP_RETURN_IF_ERROR(CheckWidth(reader.cells(), WidthOf(preprocessing.features), name));
  const Encoder encoder(reader.cells(), preprocessing);
  CsvPart part;
  for (int64_t i = 0; i < reader.cells().rows; ++i) encoder.Add(i, part);
  const auto unknown = std::ranges::find(part.labels, -1);
  if (unknown == part.labels.end()) return part;
  return absl::InvalidArgumentError(absl::StrCat(name, ": row ", unknown - part.labels.begin(),
                                                 " behind the header: \"", preprocessing.class_column,
                                                 "\" is none of the model's classes"));
}

}  // namespace lockstep
