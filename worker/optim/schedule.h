// SPDX-License-Identifier: Apache-2.0
// Schedule: the learning rate of a step, a function without state. Only reduce_on_plateau depends on how
// training goes; what it remembers is plateau.h's.
#pragma once

#include <cstdint>

#include "lockstep/v1/optimizer.pb.h"

namespace lockstep {

// The learning rate for `step` (from 0). `reductions`: how often reduce_on_plateau has reduced it so far.
double LearningRate(const lockstep::v1::ScheduleSpec& spec, double base, int64_t step, int64_t reductions = 0);

}  // namespace lockstep
