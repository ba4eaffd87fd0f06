// SPDX-License-Identifier: Apache-2.0
// Sliced update: the ranks of a host share the optimizer's work and its state. Each updates its slice of its own
// parameters, and copies the others' slices from them; every rank keeps parameters of its own.
//
// A bit that flips in one rank's memory must still be found, although all ranks take over what its owner makes of it.
// So each rank sums up the bits of what it holds whenever it changes them, block by block while they are in the cache,
// and looks whether they are still the same before the next change.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "lockstep/v1/job.pb.h"
#include "worker/comm/communicator.h"
#include "worker/comm/tree_reduce.h"
#include "worker/nn/model.h"
#include "worker/optim/optimizer.h"

namespace lockstep {

class SlicedUpdate {
 public:
  // Fewer weights are updated by each rank as a whole: while they and their state are in a cache that is faster than
  // taking over the others' part. Measured on two cores of a Zen 4, sum and update of a step, whole and shared: 1.9 M
  // weights with Adam 2.1 and 2.5 ms, 20 M with momentum 17.7 and 17.8 ms, and half the state. On two of a Xeon, whose
  // cores share less, all of a step with 1.9 M weights and Adam: 16 and 13.5 ms.
  static constexpr int64_t kMinElements = 1024 * 1024;

  // Null where each rank does the whole update: alone, between hosts, with fewer than `min_elements`, where the sum is
  // not in slices (kWholeSumElements), or where an update needs other weights than its own. The same on all ranks;
  // errors as of Communicator::MakeWindow.
  static absl::StatusOr<std::unique_ptr<SlicedUpdate>> Create(Communicator* communicator,
                                                              const lockstep::v1::OptimizerSpec& spec, int64_t elements,
                                                              int64_t min_elements = kMinElements);

  // What the optimizer is to be made with.
  const SharedState& shared_state() const { return shared_; }
  // All pointers outlive this; `reducer` has as many elements.
  void Use(Device* device, Model* model, Optimizer* optimizer, TreeReducer* reducer);

  // The sum of the gradients: all scalars, and of the rest this rank's slice. A collective, as all below.
  absl::Status Sum() { return reducer_->FinishSlice(); }
  // Then, before a step that is not finite: all of the sum.
  absl::Status SumOfAll();
  // After Sum: one step, with the bits of a whole update. `finite`: else the step is skipped,
  // and the state may have been restored since.
  absl::Status Step(bool finite, double learning_rate, int64_t step);
  // Some of this rank's memory was not as it was left. For good.
  bool damaged() const { return damaged_; }
  // The memory was changed by others, who meant it: restored from a file or from a copy.
  void Forget() { known_ = false; }

 private:
  SlicedUpdate(int64_t elements, ElementRange slice) : elements_(elements), slice_(slice) {}

  // Calls visit(block, sums) for each block of the range, where `sums` is the place of what is known of it.
  template <typename Visit>
  void ForBlocks(const ElementRange& range, size_t first_sum, size_t sums_a_block, Visit visit) const;
  size_t SumsOf(const ElementRange& range, size_t sums_a_block) const;
  uint32_t SumOf(const float* array, const ElementRange& block) const;
  // Of this rank's slice: the parameters and what of the state is shared.
  void NoteMine(const ElementRange& block, size_t sums);
  void CheckMine(const ElementRange& block, size_t sums);
  void NoteAll();
  void UpdateMine(bool finite, double learning_rate, int64_t step, bool changes);
  void TakeOthers();
  const float* parameters() const;
  const float* StateArray(size_t i) const;

  const int64_t elements_;
  const ElementRange slice_;
  SharedState shared_;
  size_t shared_arrays_ = 0;
  Device* device_ = nullptr;
  Model* model_ = nullptr;
  Optimizer* optimizer_ = nullptr;
  TreeReducer* reducer_ = nullptr;
  const SumKernels* kernels_ = nullptr;

  // Of each block of this rank's slice, the parameters' and each shared array's; then of the peers' blocks, the
  // parameters' alone.
  std::vector<uint32_t> sums_;
  // sums_ holds what the memory was left as.
  bool known_ = false;
  bool damaged_ = false;
};

}  // namespace lockstep
