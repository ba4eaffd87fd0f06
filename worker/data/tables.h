// SPDX-License-Identifier: Apache-2.0
// The parts of OpenDataset: whole sets in host memory, one function for each kind of source.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/numpy_dataset.h"
#include "worker/data/dataset.h"

namespace lockstep {

struct TableOptions {
  std::vector<std::string> roots;
  uint64_t seed = 0;
  // Labels are in [0, classes); 0: targets are numbers.
  int64_t classes = 0;
  // The source's own test part is not read; test() then has no samples.
  bool without_test = false;
};

absl::StatusOr<std::unique_ptr<Dataset>> OpenIdxTables(const lockstep::v1::IdxDataset& spec,
                                                       const TableOptions& options);
absl::StatusOr<std::unique_ptr<Dataset>> OpenCsvTables(const lockstep::v1::CsvDataset& spec,
                                                       const TableOptions& options);
absl::StatusOr<std::unique_ptr<Dataset>> OpenCifarTables(const lockstep::v1::CifarDataset& spec,
                                                         const TableOptions& options);
absl::StatusOr<std::unique_ptr<Dataset>> OpenNumpyTables(const lockstep::v1::NumpyDataset& spec,
                                                         const TableOptions& options);

// The same with the samples left in their files, for a set with a limit on memory.
absl::StatusOr<std::unique_ptr<Dataset>> OpenStreamedCifar(const lockstep::v1::CifarDataset& spec,
                                                           const TableOptions& options);
absl::StatusOr<std::unique_ptr<Dataset>> OpenStreamedNumpy(const lockstep::v1::NumpyDataset& spec,
                                                           const TableOptions& options);

// Class indices to `labels`, other targets to `numbers`; the other one stays as it is.
absl::Status ReadNumpyTargets(const NumpyColumn& targets, const TableOptions& options, std::vector<int32_t>& labels,
                              std::vector<float>& numbers);

// Holds a share of the training samples out, drawn by the seed, in place of the test part.
std::unique_ptr<Dataset> SplitTraining(std::unique_ptr<Dataset> dataset, double fraction, uint64_t seed);

}  // namespace lockstep
