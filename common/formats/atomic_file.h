// SPDX-License-Identifier: Apache-2.0
// Files that appear whole or not at all.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace lockstep {

// Writes the parts, in order, to a temporary file beside `path`, fsyncs it, renames it to `path` and
// fsyncs the folder. RESOURCE_EXHAUSTED where the disk is full; the file of before then stays.
absl::Status WriteFileAtomically(const std::string& path, std::span<const std::span<const std::byte>> parts);

// Makes the names in a folder durable.
absl::Status SyncFolder(const std::string& folder);

}  // namespace lockstep
