// SPDX-License-Identifier: Apache-2.0
// A trained model on a device, with samples to go through it.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "common/model/input_plan.h"
#include "common/model/trained_model.h"
#include "worker/data/dataset.h"
#include "worker/device/device.h"
#include "worker/nn/model.h"
#include "worker/train/sampler.h"

namespace lockstep {

class Runner {
 public:
  // `table` and `device` outlive the runner. RESOURCE_EXHAUSTED where memory is short.
  static absl::StatusOr<std::unique_ptr<Runner>> Create(const TrainedModel& trained, const DataTable& table,
                                                        Device* device);

  // The sums of all samples, in the order of a job's evaluation, as scores. INTERNAL where the device fails, as below.
  absl::StatusOr<Scores> Evaluate();
  int64_t samples() const { return sampler_->samples(); }

  // [rows, output...] of samples [first, first + rows), on the host; rows at most kEvaluationRows. Overwritten by
  // the next call.
  absl::StatusOr<std::span<const float>> Predict(int64_t first, int64_t rows);

 private:
  Device* device_ = nullptr;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Sampler> sampler_;
  std::vector<float> host_;
};

// The model's preprocessing in place of the data set's own; nothing is augmented.
lockstep::v1::DatasetSpec WithPreprocessing(lockstep::v1::DatasetSpec dataset, const Preprocessing& preprocessing);

}  // namespace lockstep
