// SPDX-License-Identifier: Apache-2.0
// A table as training data: features and targets as numbers, missing values treated, split by the
// job's seed, and scaled. One reader for the probe and for the worker.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/violations.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// The columns that are used, as places in a row.
struct CsvColumns {
  std::vector<std::string> header;
  std::vector<size_t> features;
  std::vector<size_t> targets;
};

// One part of the table, row-major.
struct CsvPart {
  int64_t rows = 0;
  // [rows, features].
  std::vector<float> features;
  // [rows, targets].
  std::vector<float> targets;
};

struct CsvTable {
  // Columns of each kind.
  int64_t features = 0;
  int64_t targets = 0;
  CsvPart train;
  CsvPart test;
  // Stored value = (value - mean) / stddev. 0 and 1 where the columns are not scaled.
  std::vector<double> feature_means;
  std::vector<double> feature_stddevs;
  std::vector<double> target_means;
  std::vector<double> target_stddevs;
};

struct CsvCounts {
  CsvColumns columns;
  int64_t train_rows = 0;
  int64_t test_rows = 0;
};

// Reads `fd` (which the caller keeps) to its end and checks every used cell without storing it. What is
// wrong is added with its path in the spec; cells are named by row and column.
CsvCounts CountCsvRows(int fd, const std::string& name, const lockstep::v1::CsvDataset& spec, Violations& violations);

// Reads the table. Row i of the usable rows is a test row where Permutation(rows, seed) places it below
// the number of test rows, llround(test_fraction * rows); both parts keep the file's order. Means and
// standard deviations are those of the training rows. Errors as above, the first one.
absl::StatusOr<CsvTable> LoadCsvTable(int fd, const std::string& name, const lockstep::v1::CsvDataset& spec,
                                      uint64_t seed);

}  // namespace lockstep
