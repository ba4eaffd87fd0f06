// SPDX-License-Identifier: Apache-2.0
// A CSV data set as numbers: columns chosen, missing values settled, split, standardised.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

struct CsvPart {
  // [rows, features].
  std::vector<float> features;
  // [rows, targets].
  std::vector<float> targets;
  int64_t rows = 0;
};

struct CsvTable {
  // Columns.
  int64_t features = 0;
  int64_t targets = 0;
  CsvPart train;
  CsvPart test;
  // Of the training rows, one for each column; empty where that side is not standardised.
  std::vector<double> feature_mean, feature_stddev, target_mean, target_stddev;
};

// Reads an open file; `name` is used in messages, which name the row (the header is row 1) and column.
// Row i of the usable rows is held out where Permutation(rows, seed of the split, 0)(i) < n_test, with
// n_test = round(test_fraction * rows); both parts keep the file's order.
absl::StatusOr<CsvTable> LoadCsvTable(int fd, const std::string& name, const lockstep::v1::CsvDataset& spec,
                                      uint64_t seed);

}  // namespace lockstep
