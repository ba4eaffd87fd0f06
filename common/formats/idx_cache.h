// SPDX-License-Identifier: Apache-2.0
// Unpacked IDX files, kept for the next process that reads the same: of the ranks of one host only one unpacks.
//
// A file is found by the SHA-256 of its packed bytes, so what is kept cannot be out of date, wherever the file lies.
// What is kept carries a hash of its own: where it is damaged or cut short it is made anew. It is mapped, so that all
// ranks of a host hold it once: it is this user's own, and is never written to once it has its name.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "common/formats/idx.h"

namespace lockstep {

struct IdxCache {
  // Made where it is missing, for this user alone; one that belongs to somebody else or that others may write to is
  // not used. Empty: nothing is kept.
  std::string folder;
  // Beyond it, what was not used for the longest time is removed. A file of more than a half of it is not kept.
  uint64_t limit_bytes = uint64_t{2} << 30;
  // Files that unpack to less are unpacked each time.
  uint64_t min_bytes = uint64_t{1} << 20;
};

// As IdxData, in memory that may be shared with other processes.
struct SharedIdx {
  Shape shape;
  // shape.elements() bytes, for as long as the owner lives.
  std::span<const uint8_t> values;
  std::shared_ptr<const void> owner;
};

// $LOCKSTEP_CACHE_DIR, else ~/.cache/lockstep/unpacked; nothing where LOCKSTEP_CACHE_DIR is "off" or there is no home.
IdxCache IdxCacheFromEnvironment();

// As ReadIdx, which it falls back on wherever the cache is of no use: it never fails for the cache's sake. Any thread
// and process; a second one that wants the same file waits until the first one has unpacked it.
absl::StatusOr<SharedIdx> ReadIdxCached(int fd, const std::string& name, const IdxCache& cache);

}  // namespace lockstep
