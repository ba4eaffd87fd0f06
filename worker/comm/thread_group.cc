// SPDX-License-Identifier: Apache-2.0
// Ranks as threads: one mutex, and a queue of posted sends for each ordered pair of ranks.
#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <numeric>
#include <thread>

#include "absl/strings/str_cat.h"
#include "worker/comm/aligned.h"
#include "worker/comm/communicator.h"

namespace lockstep {

namespace {

struct PostedSend {
  std::span<const std::byte> bytes;
  bool* taken;
};

struct Group {
  explicit Group(int n) : size(n), queues(static_cast<size_t>(n) * n), windows(n), aborted(n) {}
  std::deque<PostedSend>& queue(int from, int to) { return queues[static_cast<size_t>(from) * size + to]; }

  const int size;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::deque<PostedSend>> queues;
  // Each rank's parts, in the order in which it asked for them.
  struct Part {
    AlignedArray<std::byte> memory;
    size_t bytes;
  };
  std::vector<std::deque<Part>> windows;
  // Set under the mutex; read without it by who waits for a flag in a window.
  std::vector<std::atomic<bool>> aborted;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Group> group, int rank, int ranks_per_host)
      : group_(std::move(group)), rank_(rank) {
    const int first = rank / ranks_per_host * ranks_per_host;
    host_ranks_.resize(static_cast<size_t>(std::min(ranks_per_host, group_->size - first)));
    std::iota(host_ranks_.begin(), host_ranks_.end(), first);
  }

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

  absl::Status AllReduce(std::span<float> values, std::span<double> scalars) override {
    absl::Status status = SumByRank(values);
    return status.ok() ? SumByRank(scalars) : status;
  }

  std::span<const int> host_ranks() const override { return host_ranks_; }

  absl::StatusOr<HostWindow> MakeWindow(size_t bytes) override {
    std::unique_lock lock(group_->mutex);
    group_->windows[rank_].push_back({MakeAligned<std::byte>(bytes), bytes});
    const size_t number = group_->windows[rank_].size();
    group_->changed.notify_all();
    const auto deadline = std::chrono::steady_clock::now() + timeout_;
    HostWindow window;
    for (const int peer : host_ranks_) {
      std::deque<Group::Part>& parts = group_->windows[peer];
      if (absl::Status s = Wait(lock, deadline, peer, [&] { return parts.size() >= number; }); !s.ok()) return s;
      window.parts.emplace_back(parts[number - 1].memory.get(), parts[number - 1].bytes);
    }
    return window;
  }
  bool may_spin() const override { return static_cast<unsigned>(group_->size) <= std::thread::hardware_concurrency(); }

  void Abort() override {
    std::lock_guard lock(group_->mutex);
    group_->aborted[rank_] = true;
    group_->changed.notify_all();
  }

  bool aborted() const override { return group_->aborted[rank_]; }
  void set_timeout(std::chrono::milliseconds timeout) override { timeout_ = timeout; }
  std::chrono::milliseconds timeout() const override { return timeout_; }

 private:
  // values = the sum of all ranks', by rising rank.
  template <typename T>
  absl::Status SumByRank(std::span<T> values) {
    // This rank's stay what they were until all peers have them.
    std::vector<std::vector<T>> theirs(static_cast<size_t>(size()), std::vector<T>(values.begin(), values.end()));
    std::vector<Message> sends, receives;
    for (int peer = 0; peer < size(); ++peer) {
      if (peer == rank_) continue;
      sends.push_back({peer, std::as_writable_bytes(std::span(theirs[rank_]))});
      receives.push_back({peer, std::as_writable_bytes(std::span(theirs[peer]))});
    }
    if (absl::Status s = Exchange(sends, receives); !s.ok()) return s;
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = theirs[0][i];
      for (int r = 1; r < size(); ++r) values[i] += theirs[r][i];
    }
    return absl::OkStatus();
  }

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
  std::vector<int> host_ranks_;
  std::chrono::milliseconds timeout_{60'000};
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> MakeThreadGroup(int size, int ranks_per_host) {
  auto group = std::make_shared<Group>(size);
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int rank = 0; rank < size; ++rank) {
    ranks.push_back(std::make_unique<ThreadCommunicator>(group, rank, ranks_per_host > 0 ? ranks_per_host : size));
  }
  return ranks;
}

}  // namespace lockstep
