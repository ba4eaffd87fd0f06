// SPDX-License-Identifier: Apache-2.0
// A CSV data set as numbers: columns chosen, text made features or classes, missing values settled, split,
// standardised.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/preprocessing.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

struct CsvPart {
  // [rows, features].
  std::vector<float> features;
  // [rows, targets], or the classes' indices.
  std::vector<float> targets;
  std::vector<int32_t> labels;
  int64_t rows = 0;
};

struct CsvTable {
  // Width of a row: text has a feature for each value, so this may differ from the number of columns.
  int64_t features = 0;
  // 1 for classes.
  int64_t targets = 0;
  CsvPart train;
  CsvPart test;
  // All that was worked out from the training rows, and the classes.
  TablePreprocessing preprocessing;
};

// Reads the spec's file or files, which are looked up under `data_roots`; messages name the file, the row
// (the header is row 1) and the column. Row i of the usable rows is held out as HeldOut says; both parts
// keep the files' order.
absl::StatusOr<CsvTable> LoadCsvTable(const lockstep::v1::CsvDataset& spec, const std::vector<std::string>& data_roots,
                                      uint64_t seed);
// The same from one open file; `name` is used in messages.
absl::StatusOr<CsvTable> LoadCsvTable(int fd, const std::string& name, const lockstep::v1::CsvDataset& spec,
                                      uint64_t seed);

// The rows of another file in the form that a model was trained on: columns are found by name, others
// passed over; text that was not there becomes zeros. `with_targets`: the targets or classes too, which
// must then be there. Messages as above.
absl::StatusOr<CsvPart> ApplyPreprocessing(int fd, const std::string& name, const TablePreprocessing& preprocessing,
                                           bool with_targets);

}  // namespace lockstep
