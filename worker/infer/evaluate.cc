// SPDX-License-Identifier: Apache-2.0
#include "worker/infer/evaluate.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/model/checks.h"
#include "common/model/job_plan.h"
#include "common/status_macros.h"
#include "worker/infer/runner.h"
#include "worker/infer/sample_file.h"

namespace lockstep {

namespace {

// A job that would train the model on the data set: what submit would say of it is what is wrong.
v1::JobSpec JobOn(const TrainedModel& model, const v1::DatasetSpec& dataset) {
  v1::JobSpec spec = model.job;
  *spec.mutable_dataset() = WithPreprocessing(dataset, model.preprocessing);
  spec.set_name("evaluation");
  spec.mutable_optimizer()->mutable_sgd();
  spec.mutable_training()->set_batch_size(1);
  spec.mutable_training()->set_epochs(1);
  spec.mutable_resources()->set_workers(1);
  return spec;
}

absl::Status Refused(const Violations& violations) {
  std::string message = "the data does not fit the model";
  for (const Violation& v : violations.list()) absl::StrAppend(&message, "\n  ", v.field, ": ", v.description);
  return absl::InvalidArgumentError(message);
}

// The statistics of another table would make other inputs of the same cells.
absl::Status CheckTable(const TrainedModel& model, const Dataset& dataset) {
  const TablePreprocessing* table = dataset.table_preprocessing();
  if (table == nullptr && !model.preprocessing.table.has_value()) return absl::OkStatus();
  if (table != nullptr && model.preprocessing.table.has_value()) {
    Preprocessing own = model.preprocessing;
    own.table = *table;
    if (PreprocessingText(own) == PreprocessingText(model.preprocessing)) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "the model's inputs were made with another table's statistics, columns or classes; give the CSV file itself to "
      "evaluate all of its rows with the model's own");
}

// The loss reads targets as what it needs them to be.
absl::Status CheckTargets(const TrainedModel& model, const DataTable& table) {
  const bool labels = table.targets.type == DType::kI32;
  const auto classes = static_cast<int64_t>(model.preprocessing.table->classes.size());
  const DatasetInfo info{.sample = model.plan.input,
                         .train_samples = table.samples,
                         .test_samples = table.samples,
                         .classification = labels,
                         .target_width = labels || table.samples == 0 ? 1 : table.targets.elements() / table.samples,
                         .classes = classes};
  Violations violations;
  CheckLoss(model.job, &info, &model.plan, violations);
  CheckMetrics(model.job, &model.plan, violations);
  return violations.empty() ? absl::OkStatus() : Refused(violations);
}

}  // namespace

absl::StatusOr<Evaluation> EvaluateOnDataset(const TrainedModel& model, const v1::DatasetSpec& dataset_spec,
                                             const EvaluateOptions& options, Device* device) {
  const v1::JobSpec spec = JobOn(model, dataset_spec);
  Violations violations;
  const DatasetInfo info = ProbeDataset(spec.dataset(), options.data_roots, spec.seed(), violations);
  JobPlan plan;
  if (violations.empty()) plan = PlanJob(spec, &info, violations);
  if (!violations.empty()) return Refused(violations);
  // One output tells two classes apart.
  const int64_t classes = plan.dataset.classification ? std::max<int64_t>(model.plan.output.elements(), 2) : 0;
  LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<Dataset> dataset,
                            OpenDataset(spec.dataset(), options.data_roots, spec.seed(), classes));
  LOCKSTEP_RETURN_IF_ERROR(CheckTable(model, *dataset));
  const DataTable& part = options.training_part ? dataset->train() : dataset->test();
  if (part.samples == 0) {
    return absl::InvalidArgumentError("the data set holds no samples out; choose its training part");
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<Runner> runner, Runner::Create(model, part, device));
  Evaluation evaluation{.samples = part.samples, .scores = {}};
  LOCKSTEP_ASSIGN_OR_RETURN(evaluation.scores, runner->Evaluate());
  return evaluation;
}

absl::StatusOr<Evaluation> EvaluateOnTable(const TrainedModel& model, const std::string& path, Device* device) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<SampleFile> file, SampleFile::OpenTable(model, path, true));
  LOCKSTEP_RETURN_IF_ERROR(CheckTargets(model, file->table()));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<Runner> runner, Runner::Create(model, file->table(), device));
  Evaluation evaluation{.samples = file->table().samples, .scores = {}};
  LOCKSTEP_ASSIGN_OR_RETURN(evaluation.scores, runner->Evaluate());
  return evaluation;
}

absl::Status Predict(const TrainedModel& model, const std::string& path, Device* device, const PredictionSink& sink) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<SampleFile> file, SampleFile::Open(model, path));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::unique_ptr<Runner> runner, Runner::Create(model, file->table(), device));
  const auto width = static_cast<size_t>(model.plan.output.elements());
  for (int64_t first = 0; first < runner->samples(); first += kEvaluationRows) {
    const int64_t rows = std::min(kEvaluationRows, runner->samples() - first);
    LOCKSTEP_ASSIGN_OR_RETURN(const std::span<const float> outputs, runner->Predict(first, rows));
    for (size_t i = 0; i < static_cast<size_t>(rows); ++i) {
      LOCKSTEP_RETURN_IF_ERROR(sink(outputs.subspan(i * width, width)));
    }
  }
  return absl::OkStatus();
}

}  // namespace lockstep
