// SPDX-License-Identifier: Apache-2.0
// Dataset: samples and targets in host memory as they were stored, read once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/preprocessing.h"
#include "common/shape.h"
#include "lockstep/v1/job.pb.h"
#include "worker/device/tensor.h"

namespace lockstep {

class RowSource;

// One part (training or test). Memory belongs to the Dataset.
struct DataTable {
  // [samples, width], kU8 or kF32. x = value * scale + offset. Null data where the rows stay in their files.
  Tensor features;
  float scale = 1.0f;
  float offset = 0.0f;
  // kI32 [samples] or kF32 [samples, target_width]. Null data where they stay in the files too.
  Tensor targets;
  int64_t samples = 0;
  // Not null: sample i is row rows[i] of features and targets, for i in [0, samples). Ascending. In host
  // memory that belongs to the Dataset. Null: sample i is row i.
  const int64_t* rows = nullptr;
  // Reads the rows that stay in their files; null where all are in memory.
  RowSource* source = nullptr;
};

class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual const DataTable& train() const = 0;
  virtual const DataTable& test() const = 0;
  // Of one sample.
  virtual const Shape& sample_shape() const = 0;
  // How the columns of a table became features and targets; null: it is no table.
  virtual const TablePreprocessing* table_preprocessing() const { return nullptr; }
};

// Reads and checks all of it: sizes, counts, labels within [0, classes). `classes` 0: targets are
// numbers. Errors name the file, the place and the value; RESOURCE_EXHAUSTED where it does not fit into
// memory.
absl::StatusOr<std::unique_ptr<Dataset>> OpenDataset(const lockstep::v1::DatasetSpec& spec,
                                                     const std::vector<std::string>& data_roots, uint64_t seed,
                                                     int64_t classes);

}  // namespace lockstep
