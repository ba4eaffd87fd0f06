// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "common/model/checks.h"

namespace lockstep {

namespace {

void CheckCrossentropy(const v1::JobSpec& spec, const DatasetInfo* dataset, const ModelPlan* model,
                       Violations& violations) {
  const std::string field = "loss.sparse_categorical_crossentropy";
  if (dataset != nullptr && dataset->sample.rank() > 0 && !dataset->classification) {
    violations.Add(field, "needs class labels, but the data set's targets are numbers; use mean_squared_error");
  }
  if (model == nullptr) return;
  if (model->output.rank() != 1 || model->output.elements() < 2) {
    violations.Add(field, absl::StrCat("needs one output for each class, at least 2, but the model ends in ",
                                       model->output.ToString()));
  }
  if (dataset != nullptr && dataset->classes > model->output.elements()) {
    violations.Add(field, absl::StrCat("the labels go up to ", dataset->classes - 1, ", but the model has ",
                                       model->output.elements(), " outputs; the last layer needs at least ",
                                       dataset->classes, " units"));
  }
  const bool ends_in_softmax = model->layers.back().kind == "softmax";
  const bool from_logits = spec.loss().sparse_categorical_crossentropy().from_logits();
  if (!from_logits && !ends_in_softmax) {
    violations.Add(field + ".from_logits",
                   "is false, so the model must end in a softmax; add one, or set from_logits: true for raw outputs");
  } else if (from_logits && ends_in_softmax) {
    violations.Add(field + ".from_logits", "is true, but the model ends in a softmax; remove one of the two");
  }
}

}  // namespace

void CheckLoss(const v1::JobSpec& spec, const DatasetInfo* dataset, const ModelPlan* model, Violations& violations) {
  switch (spec.loss().kind_case()) {
    case v1::LossSpec::kSparseCategoricalCrossentropy:
      CheckCrossentropy(spec, dataset, model, violations);
      return;
    case v1::LossSpec::kMeanSquaredError:
      if (dataset == nullptr || model == nullptr) return;
      if (dataset->classification) {
        violations.Add(
            "loss.mean_squared_error",
            "needs numbers as targets, but the data set has class labels; use sparse_categorical_crossentropy");
      } else if (model->output.elements() != dataset->target_width) {
        violations.Add("loss.mean_squared_error",
                       absl::StrCat("the model ends in ", model->output.ToString(), ", but a target has ",
                                    dataset->target_width, " value(s); change the last layer's units"));
      }
      return;
    default:
      violations.Add("loss", "is missing; give sparse_categorical_crossentropy or mean_squared_error");
  }
}

}  // namespace lockstep
