// SPDX-License-Identifier: Apache-2.0
#include "common/model/validate.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/model/text.h"

namespace lockstep {

namespace {

constexpr size_t kMaxNameLength = 63;
constexpr const char* kClassLoss = "sparse_categorical_crossentropy";

void CheckName(const std::string& name, Violations& violations) {
  const auto letter_or_digit = [](char c) {
    return absl::ascii_islower(static_cast<unsigned char>(c)) || absl::ascii_isdigit(static_cast<unsigned char>(c));
  };
  if (name.empty()) {
    violations.Add("name", "is missing; give the job a name of 1 to 63 of a-z, 0-9 and \"-\"");
    return;
  }
  bool valid = name.size() <= kMaxNameLength && letter_or_digit(name.front()) && letter_or_digit(name.back());
  for (char c : name) valid = valid && (letter_or_digit(c) || c == '-');
  if (valid) return;
  violations.Add("name", absl::StrCat(Quoted(name),
                                      " is not a job's name: use 1 to 63 of a-z, 0-9 and \"-\", and start "
                                      "and end with a letter or digit"));
}

void CheckCrossentropy(const v1::LossSpec& loss, const ModelPlan& model, const DatasetInfo* dataset,
                       Violations& violations) {
  const std::string field = absl::StrCat("loss.", kClassLoss);
  if (dataset != nullptr && !dataset->classification) {
    violations.Add(field,
                   "needs class labels, but the data set has real targets; use mean_squared_error, or an idx data set");
  }
  if (!loss.sparse_categorical_crossentropy().from_logits() && !model.layers.empty() &&
      model.layers.back().kind != "softmax") {
    violations.Add(absl::StrCat(field, ".from_logits"),
                   "is false, but the model does not end in a softmax; set it to true, or give the last layer "
                   "\"activation: softmax\"");
  }
  if (model.output.rank() == 0) return;
  if (model.output.rank() != 1) {
    violations.Add(field, absl::StrCat("needs one number per class, but the model's output has the shape ",
                                       model.output.ToString(), "; end with a flatten and a dense layer"));
    return;
  }
  if (dataset != nullptr && dataset->classification && dataset->classes > model.output[0]) {
    violations.Add(field,
                   absl::StrCat("the model has ", model.output[0], " outputs, but the labels go up to ",
                                dataset->classes - 1, "; the last layer needs at least ", dataset->classes, " units"));
  }
}

void CheckMeanSquaredError(const ModelPlan& model, const DatasetInfo* dataset, Violations& violations) {
  const std::string field = "loss.mean_squared_error";
  if (dataset == nullptr) return;
  if (dataset->classification) {
    violations.Add(field, absl::StrCat("needs real targets, but the data set has class labels; use ", kClassLoss));
    return;
  }
  if (model.output.rank() == 0 || model.output.elements() == dataset->target_width) return;
  violations.Add(field, absl::StrCat("the model's output ", model.output.ToString(), " has ", model.output.elements(),
                                     " numbers, but the data set has ", dataset->target_width,
                                     " target columns; the last layer needs ", dataset->target_width, " units"));
}

}  // namespace

void CheckLoss(const v1::JobSpec& spec, const ModelPlan& model, const DatasetInfo* dataset, Violations& violations) {
  switch (spec.loss().kind_case()) {
    case v1::LossSpec::kSparseCategoricalCrossentropy:
      return CheckCrossentropy(spec.loss(), model, dataset, violations);
    case v1::LossSpec::kMeanSquaredError:
      return CheckMeanSquaredError(model, dataset, violations);
    case v1::LossSpec::KIND_NOT_SET:
      violations.Add("loss", absl::StrCat("is missing; choose ", kClassLoss, " or mean_squared_error"));
  }
}

JobPlan PlanJob(const v1::JobSpec& spec, const DatasetInfo* dataset, Violations& violations) {
  JobPlan plan;
  // What a failed probe leaves behind says nothing about the data.
  if (dataset != nullptr && dataset->train_samples == 0 && dataset->sample.rank() == 0) dataset = nullptr;
  if (dataset != nullptr) plan.dataset = *dataset;
  CheckName(spec.name(), violations);
  CheckDataset(spec.dataset(), violations);
  const size_t before_model = violations.count();
  if (spec.has_model()) {
    plan.model = PlanModel(spec.model(), dataset == nullptr ? Shape() : dataset->sample, violations);
  } else {
    violations.Add("model", "is missing; give its layers");
  }
  // A model that could not be worked out has no output to judge the loss by.
  const bool model_known = violations.count() == before_model;
  CheckLoss(spec, model_known ? plan.model : ModelPlan(), dataset, violations);
  CheckOptimizer(spec, violations);
  CheckTraining(spec, dataset, plan, violations);
  return plan;
}

}  // namespace lockstep
