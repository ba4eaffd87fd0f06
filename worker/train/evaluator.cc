// SPDX-License-Identifier: Apache-2.0
#include "worker/train/evaluator.h"

#include <algorithm>

#include "common/status_macros.h"

namespace lockstep {

namespace {

void Add(std::span<const double> from, std::span<double> to) {
  for (size_t i = 0; i < from.size(); ++i) to[i] += from[i];
}

}  // namespace

Evaluator::Evaluator(Device* device, Communicator* communicator, Model* model, Sampler* sampler, Tensor stats,
                     Progress* progress)
    : device_(device),
      communicator_(communicator),
      model_(model),
      sampler_(sampler),
      stats_(stats),
      progress_(progress),
      chunks_((sampler->samples() + kChunkRows - 1) / kChunkRows),
      first_chunk_(communicator->rank() * chunks_ / communicator->size()),
      end_chunk_((communicator->rank() + int64_t{1}) * chunks_ / communicator->size()),
      ordered_(static_cast<size_t>(model->objective().ordered_width())),
      all_(static_cast<size_t>(chunks_) * ordered_),
      chunk_(static_cast<size_t>(stats.elements())),
      total_(chunk_.size()) {
  const size_t counts = chunk_.size() - ordered_;
  counts_.resize(static_cast<size_t>(communicator_->size()) * counts);
  const auto block = [&](int rank) {
    const int64_t first = rank * chunks_ / communicator_->size(), end = (rank + 1) * chunks_ / communicator_->size();
    return std::as_writable_bytes(
        std::span(all_).subspan(static_cast<size_t>(first) * ordered_, static_cast<size_t>(end - first) * ordered_));
  };
  const auto counts_of = [&](int rank) {
    return std::as_writable_bytes(std::span(counts_).subspan(static_cast<size_t>(rank) * counts, counts));
  };
  for (int peer = 0; peer < communicator_->size(); ++peer) {
    if (peer == communicator_->rank()) continue;
    sends_.push_back({peer, block(communicator_->rank())});
    receives_.push_back({peer, block(peer)});
    if (counts == 0) continue;
    sends_.push_back({peer, counts_of(communicator_->rank())});
    receives_.push_back({peer, counts_of(peer)});
  }
  // The same ones for each evaluation.
  sampler_->Follow(
      [first = first_chunk_, end = end_chunk_, samples = sampler_->samples()](int64_t index) -> std::optional<Piece> {
        if (first == end) return std::nullopt;
        return PieceOf(first + index % (end - first), samples);
      });
}

Piece Evaluator::PieceOf(int64_t chunk, int64_t samples) {
  const int64_t first = chunk * kChunkRows;
  return {Piece::kAsStored, first, std::min(kChunkRows, samples - first)};
}

absl::StatusOr<std::span<const double>> Evaluator::Run() {
  const size_t counts = chunk_.size() - ordered_;
  const std::span<double> mine =
      std::span(counts_).subspan(static_cast<size_t>(communicator_->rank()) * counts, counts);
  std::ranges::fill(mine, 0.0);
  for (int64_t chunk = first_chunk_; chunk < end_chunk_; ++chunk) {
    LOCKSTEP_ASSIGN_OR_RETURN(const Batch batch, sampler_->Take(PieceOf(chunk, sampler_->samples())));
    device_->Fill(stats_, 0);
    model_->Evaluate(batch, stats_);
    device_->CopyToHost(chunk_.data(), stats_.data, stats_.bytes());
    std::ranges::copy(std::span(chunk_).first(ordered_), all_.begin() + chunk * static_cast<int64_t>(ordered_));
    Add(std::span(chunk_).subspan(ordered_), mine);
    progress_->Advance();
  }
  LOCKSTEP_RETURN_IF_ERROR(communicator_->Exchange(sends_, receives_));
  std::ranges::fill(total_, 0.0);
  for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
    Add(std::span(all_).subspan(static_cast<size_t>(chunk) * ordered_, ordered_), total_);
  }
  for (int r = 0; r < communicator_->size(); ++r) {
    Add(std::span(counts_).subspan(static_cast<size_t>(r) * counts, counts), std::span(total_).subspan(ordered_));
  }
  return total_;
}

}  // namespace lockstep
