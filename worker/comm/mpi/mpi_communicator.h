// SPDX-License-Identifier: Apache-2.0
// Communicator over MPI: point-to-point messages, and shared-memory windows inside a host.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"

namespace lockstep {

struct MpiOptions {
  // CPU threads of each rank, this one's own among them.
  int threads = 1;
  // For tests, if greater than zero: the machine passes for as many hosts as that takes.
  int ranks_per_host = 0;
};

// Calls MPI_Init_thread (FUNNELED): once a process, on the thread that will call Exchange and MakeWindow. The
// communicator never calls MPI_Finalize; see FinalizeMpi.
absl::StatusOr<std::unique_ptr<Communicator>> MakeMpiCommunicator(const MpiOptions& options = {});

// MPI_Finalize, after a run in which every exchange of every rank succeeded.
void FinalizeMpi();

}  // namespace lockstep
