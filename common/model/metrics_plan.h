// SPDX-License-Identifier: Apache-2.0
// Which metrics a job has, and what its outputs and targets mean for them.
#pragma once

#include <string_view>
#include <vector>

#include "common/model/job_plan.h"

namespace lockstep {

// What the loss says that the outputs are.
enum class Task : uint8_t {
  // One output for each class; the label is a class index or the largest of a distribution.
  kClasses,
  // Each output is a yes or no of its own.
  kBinary,
  // Numbers.
  kNumbers,
};

struct MetricsPlan {
  Task task = Task::kClasses;
  // Numbers of one sample's output.
  int64_t outputs = 1;
  // The job's own, each kind once, and behind them, where it is not among them, the one that
  // EpochCompleted has a field for.
  std::vector<lockstep::v1::MetricSpec> metrics;
  // How many of them the job asked for (or got by default) and are reported by name.
  size_t reported = 0;
};

Task TaskOf(const lockstep::v1::LossSpec& loss);
// The field of the oneof that is set: "accuracy". Empty where none is.
std::string_view MetricName(const lockstep::v1::MetricSpec& metric);
// With their defaults.
int TopKOf(const lockstep::v1::TopKAccuracyMetric& metric);
int AucThresholdsOf(const lockstep::v1::AucMetric& metric);
MetricsPlan PlanMetrics(const lockstep::v1::JobSpec& spec, int64_t outputs);

}  // namespace lockstep
