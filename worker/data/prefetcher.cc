// SPDX-License-Identifier: Apache-2.0
#include "worker/data/prefetcher.h"

#include <utility>

namespace lockstep {

Prefetcher::Prefetcher(Feed* feed, std::vector<Slot> slots, PieceOrder order)
    : feed_(feed), ring_(slots.size()), order_(std::move(order)) {
  for (size_t i = 0; i < slots.size(); ++i) ring_[i].slot = slots[i];
  thread_ = std::thread([this] { Run(); });
}

Prefetcher::~Prefetcher() {
  stop_.store(true);
  returned_.fetch_add(1);
  returned_.notify_one();
  thread_.join();
}

bool Prefetcher::AwaitRoom(uint32_t made) {
  for (;;) {
    const uint32_t returned = returned_.load();
    if (stop_.load()) return false;
    if (made - returned < ring_.size()) return true;
    returned_.wait(returned);
  }
}

void Prefetcher::Run() {
  size_t at = 0;
  for (int64_t index = 0;; ++index) {
    if (!AwaitRoom(static_cast<uint32_t>(index))) return;
    Entry& entry = ring_[at];
    entry.piece = order_(index);
    entry.status = entry.piece ? feed_->Make(*entry.piece, entry.slot.features, entry.slot.targets)
                               : absl::InternalError("no batch is left to be made");
    const bool last = !entry.status.ok();
    made_.store(static_cast<uint32_t>(index + 1));
    made_.notify_one();
    if (last) return;
    if (++at == ring_.size()) at = 0;
  }
}

absl::StatusOr<Prefetcher::Slot> Prefetcher::Next(const Piece& piece) {
  if (taken_ > 0) {
    returned_.store(taken_);
    returned_.notify_one();
  }
  for (uint32_t made = made_.load(); made == taken_; made = made_.load()) made_.wait(made);
  const Entry& entry = ring_[take_at_];
  if (!entry.status.ok()) return entry.status;
  if (entry.piece != piece) return absl::InternalError("another batch was made than the one that is asked for");
  ++taken_;
  if (++take_at_ == ring_.size()) take_at_ = 0;
  return entry.slot;
}

}  // namespace lockstep
