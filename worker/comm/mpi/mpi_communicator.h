// SPDX-License-Identifier: Apache-2.0
// Communicator over MPI point-to-point messages.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"

namespace lockstep {

// Calls MPI_Init_thread (FUNNELED): once a process, on the thread that will call Exchange. The
// communicator never calls MPI_Finalize; see FinalizeMpi.
absl::StatusOr<std::unique_ptr<Communicator>> MakeMpiCommunicator();

// MPI_Finalize, after a run in which every exchange of every rank succeeded.
void FinalizeMpi();

}  // namespace lockstep
