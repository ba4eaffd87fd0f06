// SPDX-License-Identifier: Apache-2.0
// What a model puts out, in words: pure text.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/model/metrics_plan.h"
#include "common/model/trained_model.h"

namespace lockstep::cli {

struct PredictionFormat {
  // Classes, the likeliest first; at least 1, at most the model's outputs count.
  int top = 1;
  // The outputs as they are.
  bool raw = false;
  // One JSON object a line instead of CSV.
  bool json = false;
};

// Classes with their probabilities where the loss says that the outputs are classes; yes or no with its probability
// where it says that they are such; else numbers, in the unit of the data before they were standardised.
class PredictionText {
 public:
  PredictionText(const TrainedModel& model, const PredictionFormat& format);

  // CSV's first line, with its end; empty for JSON.
  std::string Header() const;
  // One sample, with the line's end. `output`: as many numbers as the model puts out for one.
  std::string Row(std::span<const float> output) const;

 private:
  struct Choice {
    size_t index;
    double probability;
  };

  std::vector<Choice> Choices(std::span<const float> output) const;
  std::string ClassName(size_t index) const;
  std::string Numbers(std::span<const float> output) const;
  bool chooses() const { return !format_.raw && (task_ == Task::kClasses || binary_choice_); }

  PredictionFormat format_;
  Task task_;
  // Outputs are to be made probabilities.
  bool logits_ = false;
  // One output that says yes or no.
  bool binary_choice_ = false;
  // A score without a probability (hinge).
  bool score_ = false;
  std::vector<std::string> classes_;
  // Of the outputs.
  std::vector<std::string> names_;
  std::vector<double> mean_, stddev_;
};

// The head of a .npy file (version 1.0) of little-endian floats.
std::string NpyHead(const std::vector<int64_t>& shape);

}  // namespace lockstep::cli
