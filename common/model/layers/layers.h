// SPDX-License-Identifier: Apache-2.0
// What each kind of layer tells of itself. A plan whose input has rank 0 is one whose input is not
// known (something before it is wrong, or no data is at hand): then only the attributes are checked.
#pragma once

#include <string>
#include <vector>

#include "common/model/model_plan.h"

namespace lockstep {

#define LOCKSTEP_LAYER(name, Name) void Describe##Name(LayerPlan& plan, Violations& violations);
#include "common/model/registry.def"
#undef LOCKSTEP_LAYER

// The activations that a dense layer may name, but for "" and "linear".
const std::vector<std::string>& KnownActivations();

}  // namespace lockstep
