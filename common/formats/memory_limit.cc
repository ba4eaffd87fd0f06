// SPDX-License-Identifier: Apache-2.0
#include "common/formats/memory_limit.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace lockstep {

absl::Status CheckFitsMemory(int64_t bytes, const std::string& name) {
  const int64_t memory = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  if (bytes <= memory) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat(name, ": ", bytes, " bytes do not fit into the ", memory, " bytes of memory here"));
}

}  // namespace lockstep
