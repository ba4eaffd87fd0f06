// SPDX-License-Identifier: Apache-2.0
// A job's spec, checked and worked out: the same answer for the client, the coordinator and the worker.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/model_plan.h"
#include "common/model/violations.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

// What a data set looks like, read from its headers.
struct DatasetInfo {
  // Of one sample.
  Shape sample;
  int64_t train_samples = 0;
  int64_t test_samples = 0;
  // Class indices; else real targets (numbers to predict, or distributions over classes).
  bool classification = true;
  // Values per target: 1 for class indices.
  int64_t target_width = 1;
  // One more than the largest class index; 0: not known, or real targets.
  int64_t classes = 0;
};

struct JobPlan {
  ModelPlan model;
  DatasetInfo dataset;
  // V.
  int32_t logical_shards = 1;
  int64_t steps_per_epoch = 0;
  int64_t total_steps = 0;
};

// Checks `spec` against `dataset` (null: the data is not at hand; model.input_shape must then be
// given for shapes to be checked). Adds all that is wrong.
JobPlan PlanJob(const lockstep::v1::JobSpec& spec, const DatasetInfo* dataset, Violations& violations);

// Looks the data set up under `data_roots` and reads its headers. What is wrong (missing, outside
// every root, a FIFO, truncated, wrong magic) is added with its path in the spec. `seed`: the job's; the
// width of a table with text columns depends on which rows are trained on.
DatasetInfo ProbeDataset(const lockstep::v1::DatasetSpec& spec, const std::vector<std::string>& data_roots,
                         uint64_t seed, Violations& violations);

// Reads a job file (YAML or JSON: the protobuf JSON mapping of JobSpec; at most 1 MiB). `name` is
// used in messages. Unknown or mistyped fields are added with path and "name:line:column".
lockstep::v1::JobSpec ParseJobFile(const std::string& text, const std::string& name, Violations& violations);

}  // namespace lockstep
