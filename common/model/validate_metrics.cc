// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "common/model/checks.h"
#include "common/model/metrics_plan.h"

namespace lockstep {

void CheckMetrics(const v1::JobSpec& spec, const DatasetInfo*, const ModelPlan*, Violations& violations) {
  for (int i = 0; i < spec.metrics_size(); ++i) {
    const std::string field = absl::StrCat("metrics[", i, "]");
    const v1::MetricSpec& metric = spec.metrics(i);
    const Task task = TaskOf(spec.loss());
    const bool fits = metric.has_accuracy() ? task == Task::kClasses
                                            : (metric.has_mean_squared_error() || metric.has_mean_absolute_error() ||
                                               metric.has_r_squared()) &&
                                                  task == Task::kNumbers;
    if (!fits) violations.Add(field, "does not fit the loss");
  }
}

}  // namespace lockstep
