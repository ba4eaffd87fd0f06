// SPDX-License-Identifier: Apache-2.0
// Initial weights: a function of the seed and the parameter's place in the model.
#pragma once

#include "common/model/model_plan.h"
#include "worker/device/device.h"

namespace lockstep {

// Overwrites `out`, which has the plan's shape.
void InitializeTensor(Device& device, Tensor out, const ParameterPlan& plan, const RngStream& stream);

}  // namespace lockstep
