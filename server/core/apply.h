// SPDX-License-Identifier: Apache-2.0
// The coordinator's rules, without I/O, threads, clock or chance: the same events give the same effects.
#pragma once

#include "server/core/events.h"
#include "server/core/state.h"

namespace lockstep::core {

// Applies one event. A refused event (status not OK) changes nothing. Errors: NOT_FOUND for a job that
// is not live, FAILED_PRECONDITION for a stale generation or a wrong moment, INVALID_ARGUMENT.
Outcome Apply(State& state, const Event& event, const Limits& limits);

// Starts what fits; to be called once after the last JobRecovered.
Outcome StartQueued(State& state, const Limits& limits);

}  // namespace lockstep::core
