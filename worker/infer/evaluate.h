// SPDX-License-Identifier: Apache-2.0
// Trained models outside of a job: how good they are, and what they make of new samples. In one process, by the
// same code and, on the same device, with the same bits as in a job.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/trained_model.h"
#include "lockstep/v1/job.pb.h"
#include "worker/device/device.h"
#include "worker/nn/objective.h"

namespace lockstep {

struct Evaluation {
  int64_t samples = 0;
  // The loss, and the metrics of the model's job.
  Scores scores;
};

struct EvaluateOptions {
  std::vector<std::string> data_roots;
  // Of the data set: the training samples instead of those that are held out.
  bool training_part = false;
};

// On a data set of the form that the model was trained on; scale, offset and normalisation are the model's.
// What does not fit is said in one message, a line for each thing, as at submit. Here and below: INTERNAL where the
// device fails.
absl::StatusOr<Evaluation> EvaluateOnDataset(const TrainedModel& model, const lockstep::v1::DatasetSpec& dataset,
                                             const EvaluateOptions& options, Device* device);
// On all rows of a CSV file with the columns that the model was trained on, its targets included.
absl::StatusOr<Evaluation> EvaluateOnTable(const TrainedModel& model, const std::string& path, Device* device);

// What the model puts out for one sample; called in the file's order. The numbers are valid during the call.
using PredictionSink = std::function<absl::Status(std::span<const float> output)>;

// For each sample of a file: CSV with the model's columns; NumPy's .npy, or .npz as "file.npz:array"; IDX, also
// gzip; CIFAR's .bin. The samples have the shape that the model takes, and are preprocessed as it was trained.
// Errors name file and place; the sink's are passed on.
absl::Status Predict(const TrainedModel& model, const std::string& path, Device* device, const PredictionSink& sink);

}  // namespace lockstep
