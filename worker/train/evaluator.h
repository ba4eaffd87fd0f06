// SPDX-License-Identifier: Apache-2.0
// Evaluator: the held-out set on all ranks. The set is cut into chunks of a fixed size, each chunk is
// computed by one rank, and every rank adds the chunks' sums in chunk order: the result does not
// depend on how many ranks there are.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"
#include "worker/nn/model.h"
#include "worker/train/coordinator_link.h"
#include "worker/train/sampler.h"

namespace lockstep {

class Evaluator {
 public:
  // Rows of one chunk; part of the definition of the result's bits.
  static constexpr int64_t kChunkRows = 256;

  // All outlive the evaluator. `stats`: kF64 scratch on the device, as wide as the model's loss wants.
  // `progress` advances with each chunk.
  Evaluator(Device* device, Communicator* communicator, Model* model, Sampler* sampler, Tensor stats,
            Progress* progress);

  // Sums over the whole set. A collective: every rank calls it after the same step.
  absl::StatusOr<LossSums> Run();

 private:
  Device* device_;
  Communicator* communicator_;
  Model* model_;
  Sampler* sampler_;
  Tensor stats_;
  Progress* progress_;
  int64_t chunks_;
  // [chunks, stats width].
  std::vector<double> all_;
  std::vector<Message> sends_;
  std::vector<Message> receives_;
};

}  // namespace lockstep
