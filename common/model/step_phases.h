// SPDX-License-Identifier: Apache-2.0
// What a step's time is spent on.
#pragma once

#include "lockstep/v1/events.pb.h"

namespace lockstep {

// Share of a step's time that it waited for data, in [0, 1].
inline double DataWaitShare(const lockstep::v1::StepPhases& phases) {
  const double total = phases.lease_seconds() + phases.data_seconds() + phases.forward_seconds() +
                       phases.backward_seconds() + phases.allreduce_seconds() + phases.optimizer_seconds();
  return total > 0 ? phases.data_seconds() / total : 0;
}

}  // namespace lockstep
