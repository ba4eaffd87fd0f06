// SPDX-License-Identifier: Apache-2.0
// The value of an epoch that something is decided by.
#pragma once

#include <string>

#include "common/model/job_plan.h"

namespace lockstep {

struct MonitorPlan {
  // "test_loss".
  std::string metric;
  bool higher_is_better = false;
};

// `held_out`: there is held-out data.
MonitorPlan PlanMonitor(const lockstep::v1::MonitorSpec& spec, bool held_out);

// What best checkpoints are the best by: keep_best, else what stops training early, else the loss.
MonitorPlan PlanKeepBest(const lockstep::v1::TrainingSpec& spec, bool held_out);

// Why training stopped: "test_loss did not get better for 3 epochs".
std::string DescribeStop(const lockstep::v1::EarlyStoppingSpec& spec, bool held_out);

// `dataset`: null where the data is not at hand.
void CheckMonitors(const lockstep::v1::JobSpec& spec, const DatasetInfo* dataset, Violations& violations);

}  // namespace lockstep
