// SPDX-License-Identifier: Apache-2.0
// Evaluator: the held-out set on all ranks. The set is cut into chunks of a fixed size, each chunk is
// computed by one rank, and every rank adds the chunks' sums in chunk order: the result does not
// depend on how many ranks there are. Sums that are counts come out the same in any order, so each rank
// adds its own first.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/input_plan.h"
#include "worker/comm/communicator.h"
#include "worker/nn/model.h"
#include "worker/train/coordinator_link.h"
#include "worker/train/sampler.h"

namespace lockstep {

class Evaluator {
 public:
  // Rows of one chunk; part of the definition of the result's bits.
  static constexpr int64_t kChunkRows = kEvaluationRows;

  // All outlive the evaluator. `stats`: kF64 scratch on the device, as wide as the model's objective.
  // `progress` advances with each chunk.
  Evaluator(Device* device, Communicator* communicator, Model* model, Sampler* sampler, Tensor stats,
            Progress* progress);

  // The objective's sums over the whole set, valid until the next call. A collective: every rank calls
  // it after the same step.
  absl::StatusOr<std::span<const double>> Run();

 private:
  static Piece PieceOf(int64_t chunk, int64_t samples);

  Device* device_;
  Communicator* communicator_;
  Model* model_;
  Sampler* sampler_;
  Tensor stats_;
  Progress* progress_;
  int64_t chunks_;
  // This rank's.
  int64_t first_chunk_;
  int64_t end_chunk_;
  // How many of a chunk's sums depend on the order.
  size_t ordered_;
  // [chunks, ordered].
  std::vector<double> all_;
  // [ranks, width - ordered].
  std::vector<double> counts_;
  std::vector<double> chunk_;
  std::vector<double> total_;
  std::vector<Message> sends_;
  std::vector<Message> receives_;
};

}  // namespace lockstep
