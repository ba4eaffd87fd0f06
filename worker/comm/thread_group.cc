// SPDX-License-Identifier: Apache-2.0
// Ranks as threads: one mutex, and a queue of posted sends for each ordered pair of ranks.
#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "worker/comm/communicator.h"

namespace lockstep {

namespace {

struct PostedSend {
  std::span<const std::byte> bytes;
  bool* taken;
};

struct Group {
  explicit Group(int n) : size(n), queues(static_cast<size_t>(n) * n), aborted(n, false) {}
  std::deque<PostedSend>& queue(int from, int to) { return queues[static_cast<size_t>(from) * size + to]; }

  const int size;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::deque<PostedSend>> queues;
  std::vector<bool> aborted;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Group> group, int rank) : group_(std::move(group)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return group_->size; }

  absl::Status Exchange(std::span<const Message> sends, std::span<const Message> receives) override {
    std::unique_lock lock(group_->mutex);
    // unique_ptr<bool[]> rather than vector<bool>: peers write through the pointers.
    auto taken = std::make_unique<bool[]>(sends.size());
    for (size_t i = 0; i < sends.size(); ++i) {
      taken[i] = false;
      group_->queue(rank_, sends[i].peer).push_back({sends[i].bytes, &taken[i]});
    }
    group_->changed.notify_all();
    const auto deadline = std::chrono::steady_clock::now() + timeout_;
    for (const Message& receive : receives) {
      std::deque<PostedSend>& queue = group_->queue(receive.peer, rank_);
      if (absl::Status s = Wait(lock, deadline, receive.peer, [&] { return !queue.empty(); }); !s.ok()) {
        Withdraw(taken.get(), sends.size());
        return s;
      }
      const PostedSend send = queue.front();
      queue.pop_front();
      *send.taken = true;
      group_->changed.notify_all();
      if (send.bytes.size() != receive.bytes.size()) {
        Withdraw(taken.get(), sends.size());
        return absl::InternalError(absl::StrCat("rank ", receive.peer, " sent ", send.bytes.size(), " bytes, rank ",
                                                rank_, " expected ", receive.bytes.size()));
      }
      // An empty message may have no memory at all.
      if (!send.bytes.empty()) std::memcpy(receive.bytes.data(), send.bytes.data(), send.bytes.size());
    }
    for (size_t i = 0; i < sends.size(); ++i) {
      if (absl::Status s = Wait(lock, deadline, sends[i].peer, [&] { return taken[i]; }); !s.ok()) {
        Withdraw(taken.get(), sends.size());
        return s;
      }
    }
    return absl::OkStatus();
  }

  void Abort() override {
    std::lock_guard lock(group_->mutex);
    group_->aborted[rank_] = true;
    group_->changed.notify_all();
  }

  void set_timeout(std::chrono::milliseconds timeout) override { timeout_ = timeout; }

 private:
  template <typename Done>
  absl::Status Wait(std::unique_lock<std::mutex>& lock, std::chrono::steady_clock::time_point deadline, int peer,
                    Done done) {
    const bool finished = group_->changed.wait_until(lock, deadline, [&] { return done() || group_->aborted[rank_]; });
    if (group_->aborted[rank_]) return absl::AbortedError("the exchange was aborted");
    if (!finished)
      return absl::DeadlineExceededError(absl::StrCat("no message exchanged with rank ", peer, " in time"));
    return absl::OkStatus();
  }

  // Takes back sends that point into this call's frame.
  void Withdraw(const bool* taken, size_t count) {
    for (int to = 0; to < group_->size; ++to) {
      std::erase_if(group_->queue(rank_, to),
                    [&](const PostedSend& send) { return send.taken >= taken && send.taken < taken + count; });
    }
  }

  std::shared_ptr<Group> group_;
  int rank_;
  std::chrono::milliseconds timeout_{60'000};
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> MakeThreadGroup(int size) {
  auto group = std::make_shared<Group>(size);
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int rank = 0; rank < size; ++rank) ranks.push_back(std::make_unique<ThreadCommunicator>(group, rank));
  return ranks;
}

}  // namespace lockstep
