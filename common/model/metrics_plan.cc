// SPDX-License-Identifier: Apache-2.0
#include "common/model/metrics_plan.h"

#include <algorithm>

namespace lockstep {

Task TaskOf(const v1::LossSpec& loss) {
  switch (loss.kind_case()) {
    case v1::LossSpec::kBinaryCrossentropy:
    case v1::LossSpec::kHinge:
      return Task::kBinary;
    case v1::LossSpec::kMeanSquaredError:
    case v1::LossSpec::kMeanAbsoluteError:
    case v1::LossSpec::kHuber:
      return Task::kNumbers;
    default:
      return Task::kClasses;
  }
}

std::string_view MetricName(const v1::MetricSpec& metric) {
  const auto* field = v1::MetricSpec::descriptor()->FindFieldByNumber(metric.kind_case());
  return field == nullptr ? std::string_view() : std::string_view(field->name());
}

int TopKOf(const v1::TopKAccuracyMetric& metric) { return metric.k() == 0 ? 5 : metric.k(); }
int AucThresholdsOf(const v1::AucMetric& metric) {
  return metric.num_thresholds() == 0 ? 200 : metric.num_thresholds();
}

MetricsPlan PlanMetrics(const v1::JobSpec& spec, int64_t outputs) {
  MetricsPlan plan{
      .task = TaskOf(spec.loss()), .outputs = outputs, .metrics = {spec.metrics().begin(), spec.metrics().end()}};
  v1::MetricSpec basic;
  if (plan.task == Task::kNumbers) {
    basic.mutable_r_squared();
  } else if (plan.task == Task::kBinary && outputs > 1) {
    basic.mutable_binary_accuracy();
  } else {
    basic.mutable_accuracy();
  }
  const auto same = [&](const v1::MetricSpec& m) { return m.kind_case() == basic.kind_case(); };
  plan.reported = plan.metrics.empty() ? 1 : plan.metrics.size();
  if (std::ranges::none_of(plan.metrics, same)) plan.metrics.push_back(std::move(basic));
  return plan;
}

}  // namespace lockstep
