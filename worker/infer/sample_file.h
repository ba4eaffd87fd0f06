// SPDX-License-Identifier: Apache-2.0
// Samples without a data set: one file, in any of the formats that are read, as a model takes them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/trained_model.h"
#include "worker/data/dataset.h"

namespace lockstep {

class SampleFile {
 public:
  // Which format it is, the content tells; what is none of the others is taken for CSV. The samples have the
  // shape that the model takes. NOT_FOUND, INVALID_ARGUMENT, DATA_LOSS and RESOURCE_EXHAUSTED say what is wrong
  // where.
  static absl::StatusOr<std::unique_ptr<SampleFile>> Open(const TrainedModel& model, const std::string& path);
  // A CSV file with the model's columns, and `with_targets` its targets too.
  static absl::StatusOr<std::unique_ptr<SampleFile>> OpenTable(const TrainedModel& model, const std::string& path,
                                                               bool with_targets);

  // Targets are zeros where the file has none.
  const DataTable& table() const { return table_; }

 private:
  absl::Status ReadTable(int fd, const std::string& path, const TrainedModel& model, bool with_targets);
  absl::Status ReadIdxFile(int fd, const std::string& path, const TrainedModel& model);
  absl::Status ReadArray(int fd, const std::string& path, const std::string& member, const TrainedModel& model);
  absl::Status ReadCifarFile(int fd, const std::string& path, const TrainedModel& model);
  void Describe(const TrainedModel& model, Tensor features, int64_t samples);

  std::vector<uint8_t> bytes_;
  std::vector<float> floats_;
  std::vector<float> targets_;
  std::vector<int32_t> labels_;
  DataTable table_;
};

}  // namespace lockstep
