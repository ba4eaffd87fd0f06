// SPDX-License-Identifier: Apache-2.0
// HostSync: how the ranks of a host wait for each other. Each has one counter in the host's shared memory; nobody
// calls MPI or the kernel as long as peers are on time.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "worker/comm/aligned.h"
#include "worker/comm/communicator.h"

namespace lockstep {

// What a rank shows its peers; in its part of a window. Two cache lines, since hardware fetches them in pairs.
struct alignas(128) HostFlag {
  std::atomic<uint32_t> posts;
  // Peers that sleep until `posts` changes.
  std::atomic<uint32_t> sleepers;
  // Written before a Post and read after the Await of that Post.
  double value;
};
static_assert(alignof(HostFlag) <= kLinePair, "a window may begin elsewhere");

// Of one thread.
class HostSync {
 public:
  HostSync() = default;
  // flags[i]: the i-th host rank's, zero when the window was made.
  HostSync(const Communicator* communicator, std::vector<HostFlag*> flags);

  // What this rank wrote before is seen by all peers whose Await returns.
  void Post();
  // Until every peer has posted as often as this rank: ABORTED and DEADLINE_EXCEEDED as of Communicator::Exchange.
  absl::Status Await();
  HostFlag& mine() { return *flags_[me_]; }
  std::span<HostFlag* const> all() const { return flags_; }

 private:
  bool Reached(size_t peer) const {
    // The counters may wrap.
    return static_cast<int32_t>(flags_[peer]->posts.load(std::memory_order_acquire) - posts_) >= 0;
  }
  bool Spin(size_t peer) const;
  absl::Status Sleep(size_t peer);

  const Communicator* communicator_ = nullptr;
  std::vector<HostFlag*> flags_;
  size_t me_ = 0;
  uint32_t posts_ = 0;
};

}  // namespace lockstep
