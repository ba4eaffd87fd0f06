// SPDX-License-Identifier: Apache-2.0
#include "common/model/monitor.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/model/metrics_plan.h"
#include "common/model/names.h"
#include "common/model/ranges.h"

namespace lockstep {

namespace {

constexpr std::string_view kTrain = "train_", kTest = "test_";

// The metrics of which more is better; of all others less is.
bool MoreIsBetter(std::string_view metric) {
  static constexpr std::string_view kNames[] = {"accuracy",  "top_k_accuracy",   "binary_accuracy",
                                                "precision", "recall",           "f1_score",
                                                "auc",       "confusion_matrix", "r_squared"};
  return std::ranges::find(kNames, metric) != std::end(kNames);
}

std::string_view WithoutPart(std::string_view name) {
  for (const std::string_view part : {kTrain, kTest}) {
    if (name.starts_with(part)) return name.substr(part.size());
  }
  return name;
}

// All that the job has a value for.
std::vector<std::string> KnownValues(const v1::JobSpec& spec, bool held_out) {
  std::vector<std::string> metrics{"loss"};
  const MetricsPlan plan = PlanMetrics(spec, 1);
  for (size_t i = 0; i < plan.reported; ++i) metrics.emplace_back(MetricName(plan.metrics[i]));
  std::vector<std::string> names;
  for (const std::string_view part : {kTrain, kTest}) {
    for (const std::string& metric : metrics) {
      if (part == kTrain || (held_out && metric != "gradient_norm")) names.push_back(std::string(part) + metric);
    }
  }
  return names;
}

void CheckMonitor(const v1::MonitorSpec& spec, const std::string& field, const std::vector<std::string>& known,
                  Violations& violations) {
  if (!v1::MonitorMode_IsValid(spec.mode())) violations.Add(field + ".mode", "must be MIN or MAX");
  CheckNotNegative(violations, field + ".min_delta", spec.min_delta());
  if (spec.metric().empty() || std::ranges::find(known, spec.metric()) != known.end()) return;
  violations.Add(field + ".metric",
                 absl::StrCat("the job has no value \"", spec.metric().substr(0, 64), "\"",
                              DidYouMean(spec.metric(), known), " It has: ", absl::StrJoin(known, ", ")));
}

}  // namespace

MonitorPlan PlanMonitor(const v1::MonitorSpec& spec, bool held_out) {
  MonitorPlan plan{.metric = spec.metric()};
  if (plan.metric.empty()) plan.metric = std::string(held_out ? kTest : kTrain) + "loss";
  plan.higher_is_better = spec.mode() == v1::MONITOR_MODE_UNSPECIFIED ? MoreIsBetter(WithoutPart(plan.metric))
                                                                      : spec.mode() == v1::MONITOR_MODE_MAX;
  return plan;
}

MonitorPlan PlanKeepBest(const v1::TrainingSpec& spec, bool held_out) {
  return PlanMonitor(spec.has_keep_best() ? spec.keep_best() : spec.early_stopping().monitor(), held_out);
}

std::string DescribeStop(const v1::EarlyStoppingSpec& spec, bool held_out) {
  const int64_t epochs = std::max<int64_t>(1, spec.patience());
  return absl::StrCat(PlanMonitor(spec.monitor(), held_out).metric, " did not get better for ", epochs,
                      epochs == 1 ? " epoch" : " epochs");
}

void CheckMonitors(const v1::JobSpec& spec, const DatasetInfo* dataset, Violations& violations) {
  const bool held_out = dataset == nullptr || dataset->test_samples > 0;
  const std::vector<std::string> known = KnownValues(spec, held_out);
  if (spec.schedule().has_reduce_on_plateau()) {
    CheckMonitor(spec.schedule().reduce_on_plateau().monitor(), "schedule.reduce_on_plateau.monitor", known,
                 violations);
  }
  const v1::TrainingSpec& training = spec.training();
  if (training.has_keep_best()) CheckMonitor(training.keep_best(), "training.keep_best", known, violations);
  if (!training.has_early_stopping()) return;
  const v1::EarlyStoppingSpec& stopping = training.early_stopping();
  CheckMonitor(stopping.monitor(), "training.early_stopping.monitor", known, violations);
  CheckAtLeast(violations, "training.early_stopping.patience", stopping.patience(), 0);
}

}  // namespace lockstep
