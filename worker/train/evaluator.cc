// SPDX-License-Identifier: Apache-2.0
#include "worker/train/evaluator.h"

#include <algorithm>

#include "common/status_macros.h"

namespace lockstep {

Evaluator::Evaluator(Device* device, Communicator* communicator, Model* model, Sampler* sampler, Tensor stats,
                     Progress* progress)
    : device_(device),
      communicator_(communicator),
      model_(model),
      sampler_(sampler),
      stats_(stats),
      progress_(progress),
      chunks_((sampler->samples() + kChunkRows - 1) / kChunkRows),
      all_(static_cast<size_t>(chunks_ * stats.elements())) {
  const auto block = [&](int rank) {
    const int64_t first = rank * chunks_ / communicator_->size(), end = (rank + 1) * chunks_ / communicator_->size();
    const int64_t width = stats_.elements();
    return std::as_writable_bytes(std::span(all_.data() + first * width, static_cast<size_t>((end - first) * width)));
  };
  for (int peer = 0; peer < communicator_->size(); ++peer) {
    if (peer == communicator_->rank()) continue;
    sends_.push_back({peer, block(communicator_->rank())});
    receives_.push_back({peer, block(peer)});
  }
}

absl::StatusOr<LossSums> Evaluator::Run() {
  const int64_t width = stats_.elements();
  const int64_t rank = communicator_->rank(), size = communicator_->size();
  for (int64_t chunk = rank * chunks_ / size; chunk < (rank + 1) * chunks_ / size; ++chunk) {
    const int64_t first = chunk * kChunkRows;
    const int64_t rows = std::min(kChunkRows, sampler_->samples() - first);
    device_->Fill(stats_, 0);
    model_->Evaluate(sampler_->InOrder(first, rows), stats_);
    device_->CopyToHost(all_.data() + chunk * width, stats_.data, stats_.bytes());
    progress_->Advance();
  }
  LOCKSTEP_RETURN_IF_ERROR(communicator_->Exchange(sends_, receives_));
  std::vector<double> total(static_cast<size_t>(width), 0.0);
  for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
    for (int64_t i = 0; i < width; ++i) total[i] += all_[chunk * width + i];
  }
  return model_->loss().Sums(total.data());
}

}  // namespace lockstep
