// SPDX-License-Identifier: Apache-2.0
// Prefetcher: a thread that makes the batches of coming steps, in their order, into a ring of fixed size.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/data/feed.h"

namespace lockstep {

// The piece that is asked for as number `index` (0, 1, 2, ...); nothing where there is none any more.
using PieceOrder = std::function<std::optional<Piece>(int64_t index)>;

class Prefetcher {
 public:
  // Host memory for one batch.
  struct Slot {
    float* features = nullptr;
    void* targets = nullptr;
  };

  // At least two slots: one is in use, the others are made ready. The feed and the memory outlive the
  // prefetcher; the feed is the thread's alone.
  Prefetcher(Feed* feed, std::vector<Slot> slots, PieceOrder order);
  // Ends the thread after the batch it is at.
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // The next batch, which must be of this piece; waits until it is made. It stays as it is until the next
  // call. What went wrong with it, and so with all later ones; INTERNAL where another piece is next. One thread;
  // allocates and locks nothing.
  absl::StatusOr<Slot> Next(const Piece& piece);
  // Next would not wait.
  bool ready() const { return made_.load() != taken_; }

 private:
  struct Entry {
    Slot slot;
    std::optional<Piece> piece;
    absl::Status status;
  };

  void Run();
  // False where it is to stop.
  bool AwaitRoom(uint32_t made);

  Feed* feed_;
  std::vector<Entry> ring_;
  PieceOrder order_;
  // Batches made, and those given back; both wrap around.
  std::atomic<uint32_t> made_{0};
  std::atomic<uint32_t> returned_{0};
  std::atomic<bool> stop_{false};
  // The caller's: batches taken, and where the next one lies.
  uint32_t taken_ = 0;
  size_t take_at_ = 0;
  std::thread thread_;
};

}  // namespace lockstep
