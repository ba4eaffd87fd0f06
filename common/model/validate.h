// SPDX-License-Identifier: Apache-2.0
// The parts of PlanJob's checks. Each adds what is wrong with its own part of the spec.
#pragma once

#include "common/model/job_plan.h"

namespace lockstep {

// Fields of the dataset that can be judged without the data.
void CheckDataset(const lockstep::v1::DatasetSpec& spec, Violations& violations);
// Optimizer and schedule: presence and ranges.
void CheckOptimizer(const lockstep::v1::JobSpec& spec, Violations& violations);
// Loss: presence, and that it fits the model's output and the targets. `dataset` may be null.
void CheckLoss(const lockstep::v1::JobSpec& spec, const ModelPlan& model, const DatasetInfo* dataset,
               Violations& violations);
// Training and resources; fills in V. `dataset` may be null.
void CheckTraining(const lockstep::v1::JobSpec& spec, const DatasetInfo* dataset, JobPlan& plan,
                   Violations& violations);

}  // namespace lockstep
