// SPDX-License-Identifier: Apache-2.0
// A model as a table for people.
#pragma once

#include <string>

#include "common/model/model_plan.h"

namespace lockstep {

// One row per layer of the job file with its output shape and parameters, then the total: the columns
// of Keras's summary. Ends with a newline.
std::string ModelSummary(const ModelPlan& plan);

}  // namespace lockstep
