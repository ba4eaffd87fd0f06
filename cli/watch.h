// SPDX-License-Identifier: Apache-2.0
// Follows a job to its end.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "cli/client.h"
#include "cli/options.h"

namespace lockstep::cli {

struct WatchOptions {
  // Set by a signal: stop watching. Checked at every event and at least ten times a second.
  const std::atomic<bool>* interrupted = nullptr;
  // Events up to this one are not shown.
  int64_t after_sequence = 0;
  // The JSON form prints the events only.
  bool summary = true;
};

// Shows progress on options.err and epochs on options.out, reconnecting where the connection breaks,
// until the job has ended; then a summary with the loss curve. Returns the exit status of the job, or
// kInterrupted.
int Watch(const Options& options, Client& client, const std::string& job_id, const WatchOptions& watch);

}  // namespace lockstep::cli
