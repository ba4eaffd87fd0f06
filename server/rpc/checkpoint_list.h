// SPDX-License-Identifier: Apache-2.0
// A job's checkpoints as they lie on disk.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/store/store.h"

namespace lockstep::rpc {

// Those that count and are still there, oldest first, the trained model included.
absl::StatusOr<std::vector<store::CheckpointRow>> PresentCheckpoints(const store::Store& store,
                                                                     const std::string& job_id);
// Bytes of a file, or of all files below a folder; what cannot be read counts nothing.
int64_t BytesOnDisk(const std::string& path);
// The steps one can go on from, for people: "0, 100, 200". A job that begins at step 0 can do so again.
std::string StepsToStartFrom(const std::vector<store::CheckpointRow>& checkpoints, int64_t first_step);

}  // namespace lockstep::rpc
