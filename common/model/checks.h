// SPDX-License-Identifier: Apache-2.0
// The parts of PlanJob: each adds what is wrong with its part of the spec.
#pragma once

#include "common/model/job_plan.h"

namespace lockstep {

// `dataset`: null where the data is not at hand; then also what ProbeDataset would have said.
void CheckDataset(const lockstep::v1::JobSpec& spec, const DatasetInfo* dataset, Violations& violations);
// What happens to the samples on their way to the step. `logical_shards`: 0 where they are not known.
void CheckInput(const lockstep::v1::JobSpec& spec, const DatasetInfo* dataset, int32_t logical_shards,
                Violations& violations);
// `model`: null where something is wrong with it.
void CheckLoss(const lockstep::v1::JobSpec& spec, const DatasetInfo* dataset, const ModelPlan* model,
               Violations& violations);
void CheckMetrics(const lockstep::v1::JobSpec& spec, const ModelPlan* model, Violations& violations);
// `model`: as above.
void CheckOptimizer(const lockstep::v1::JobSpec& job, const ModelPlan* model, Violations& violations);
void CheckSchedule(const lockstep::v1::JobSpec& job, Violations& violations);
// Adds under `field` where the initialiser does not fit a parameter of this shape.
void CheckInitializer(const lockstep::v1::InitializerSpec& spec, const Shape& shape, const std::string& field,
                      Violations& violations);

}  // namespace lockstep
