// SPDX-License-Identifier: Apache-2.0
#include "worker/comm/host_sync.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/comm/sum.h"

namespace lockstep {

namespace {

using SteadyClock = std::chrono::steady_clock;

// What sleeping and waking cost twice over: a peer that is later than this is not worth a busy core.
constexpr std::chrono::microseconds kSpin{100};
constexpr int kPausesPerClock = 32;
// How late an abort or a deadline may be seen.
constexpr std::chrono::milliseconds kNap{5};

static_assert(std::atomic<uint32_t>::is_always_lock_free && sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));

// Between processes, so not the private kind.
void FutexWait(std::atomic<uint32_t>& word, uint32_t seen) {
  const timespec limit{0, std::chrono::nanoseconds(kNap).count()};
  syscall(SYS_futex, &word, FUTEX_WAIT, seen, &limit, nullptr, 0);
}
void FutexWake(std::atomic<uint32_t>& word) { syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0); }

}  // namespace

HostSync::HostSync(const Communicator* communicator, std::vector<HostFlag*> flags)
    : communicator_(communicator), flags_(std::move(flags)) {
  const auto ranks = communicator->host_ranks();
  me_ = static_cast<size_t>(std::ranges::find(ranks, communicator->rank()) - ranks.begin());
}

void HostSync::Post() {
  HostFlag& flag = mine();
  // Ordered with the sleeper's count: either it sees the new number, or this rank sees that it sleeps.
  flag.posts.store(++posts_, std::memory_order_seq_cst);
  if (flag.sleepers.load(std::memory_order_seq_cst) != 0) FutexWake(flag.posts);
}

absl::Status HostSync::Await() {
  for (size_t peer = 0; peer < flags_.size(); ++peer) {
    if (Reached(peer) || Spin(peer)) continue;
    if (absl::Status s = Sleep(peer); !s.ok()) return s;
  }
  return absl::OkStatus();
}

bool HostSync::Spin(size_t peer) const {
  if (!communicator_->may_spin()) return false;
  const auto end = SteadyClock::now() + kSpin;
  do {
    for (int i = 0; i < kPausesPerClock; ++i) {
      if (Reached(peer)) return true;
      Pause();
    }
  } while (SteadyClock::now() < end);
  return false;
}

absl::Status HostSync::Sleep(size_t peer) {
  HostFlag& flag = *flags_[peer];
  const auto deadline = SteadyClock::now() + communicator_->timeout();
  while (true) {
    if (communicator_->aborted()) return absl::AbortedError("the exchange was aborted");
    flag.sleepers.fetch_add(1, std::memory_order_seq_cst);
    const uint32_t seen = flag.posts.load(std::memory_order_seq_cst);
    if (static_cast<int32_t>(seen - posts_) < 0) FutexWait(flag.posts, seen);
    flag.sleepers.fetch_sub(1, std::memory_order_seq_cst);
    if (Reached(peer)) return absl::OkStatus();
    if (SteadyClock::now() > deadline) break;
  }
  std::string silent;
  for (size_t i = 0; i < flags_.size(); ++i) {
    if (!Reached(i)) absl::StrAppend(&silent, " ", communicator_->host_ranks()[i]);
  }
  return absl::DeadlineExceededError(absl::StrCat("did not come to the exchange in time: rank(s)", silent));
}

}  // namespace lockstep
