// SPDX-License-Identifier: Apache-2.0
// The folder through which a shim and coordinators, also later ones, know of each other: one per generation.
//   shim.json       who the shim is, written once, before it starts anything
//   output.log      what the worker group printed
//   exit.json.part  room on the disk for exit.json, taken before the group starts
//   exit.json       how the group ended, written last
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/core/job.h"

namespace lockstep::launch {

struct ShimIdentity {
  pid_t pid = 0;
  // Of the process, see StartTimeOf.
  int64_t start_time = 0;
  // Of the kernel, see BootId.
  std::string boot_id;
  int64_t generation = 0;
  // Removed when the group is gone.
  std::string scratch_dir;
};

// Writes a file whole: a temporary one is renamed onto it.
absl::Status WriteFileAtomically(const std::string& path, const std::string& text);

// ALREADY_EXISTS where there is one: whoever writes it first says for good whether the group may run.
absl::Status WriteShimIdentity(const std::string& run_dir, const ShimIdentity& identity);
absl::StatusOr<ShimIdentity> ReadShimIdentity(const std::string& run_dir);
// Takes the room for the report, so that a disk that fills up meanwhile does not swallow it.
absl::Status ReserveGroupExit(const std::string& run_dir);
absl::Status WriteGroupExit(const std::string& run_dir, int64_t generation, const core::GroupExit& exit);
// NOT_FOUND where the shim left no report. `last_output` is filled in from the log.
absl::StatusOr<core::GroupExit> ReadGroupExit(const std::string& run_dir);
// The last line of output.log that holds anything, at most 300 characters, printable ones only.
std::string LastOutputLine(const std::string& run_dir);

// In the environment of everything that the shim starts: "NAME=VALUE".
std::string GroupMark(const std::string& run_dir);

// A descriptor of the shim's process that becomes readable when it ends; -1 where it is gone.
int OpenShim(const ShimIdentity& identity);

}  // namespace lockstep::launch
