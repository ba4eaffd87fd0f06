// SPDX-License-Identifier: Apache-2.0
// A job that does a part of another one again.
#pragma once

#include "common/model/violations.h"
#include "server/rpc/coordinator.h"
#include "server/store/store.h"

namespace lockstep::rpc {

// Where the submission's spec has a replay: sets its first and total steps, its logical shards and the
// checkpoint it starts from to those of the other job. Adds all that does not fit.
void ResolveReplay(const store::Store& store, Submission& submission, Violations& violations);

}  // namespace lockstep::rpc
