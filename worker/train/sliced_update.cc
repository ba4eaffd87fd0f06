// SPDX-License-Identifier: Apache-2.0
#include "worker/train/sliced_update.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/status_macros.h"
#include "worker/comm/sum.h"

namespace lockstep {

namespace {

// Floats, 64 KiB: a block of the parameters, the gradient and two arrays of state stays in a second-level cache while
// it is looked at, updated, handed out and summed up.
constexpr int64_t kBlock = 16 * 1024;

}  // namespace

absl::StatusOr<std::unique_ptr<SlicedUpdate>> SlicedUpdate::Create(Communicator* communicator,
                                                                   const v1::OptimizerSpec& spec, int64_t elements,
                                                                   int64_t min_elements) {
  const int size = communicator->size();
  const bool one_host = communicator->host_ranks().size() == static_cast<size_t>(size);
  if (size == 1 || !one_host || elements < min_elements || elements <= kWholeSumElements || !IsElementwise(spec))
    return nullptr;
  std::unique_ptr<SlicedUpdate> update(new SlicedUpdate(elements, SliceOf(communicator->rank(), size, elements)));
  const size_t bytes = SharedStateBytes(spec, elements, DType::kF32);
  if (bytes == 0) return update;
  const bool keeps = communicator->rank() == communicator->host_ranks().front();
  LOCKSTEP_ASSIGN_OR_RETURN(const HostWindow window, communicator->MakeWindow(keeps ? bytes : 0));
  update->shared_ = {window.parts.front(), keeps};
  update->shared_arrays_ = bytes / SharedArrayBytes(elements, DType::kF32);
  return update;
}

void SlicedUpdate::Use(Device* device, Model* model, Optimizer* optimizer, TreeReducer* reducer) {
  device_ = device;
  model_ = model;
  optimizer_ = optimizer;
  reducer_ = reducer;
  kernels_ = &ChooseSum();
  size_t sums = SumsOf(slice_, 1 + shared_arrays_);
  for (const auto& peer : reducer->peer_slices()) sums += SumsOf(peer.range, 1);
  sums_.resize(sums);
}

absl::Status SlicedUpdate::SumOfAll() {
  LOCKSTEP_RETURN_IF_ERROR(reducer_->Gather(reducer_->sum()));
  return reducer_->Meet();
}

absl::Status SlicedUpdate::Step(bool finite, double learning_rate, int64_t step) {
  // Where the state was restored: one rank did it for all.
  if (!finite) LOCKSTEP_RETURN_IF_ERROR(reducer_->Meet());
  if (!std::exchange(known_, true)) NoteAll();
  // Moving statistics are parameters too, and change in every step that is not skipped.
  const bool changes = finite || optimizer_->changes_parameters(step);
  UpdateMine(finite, learning_rate, step, changes);
  // Also where nothing is handed out: rank 0 may save all of the state from now on.
  LOCKSTEP_RETURN_IF_ERROR(reducer_->Meet());
  if (!changes) return absl::OkStatus();
  TakeOthers();
  reducer_->Taken();
  return absl::OkStatus();
}

const float* SlicedUpdate::parameters() const { return model_->parameters().as<float>(); }

template <typename Visit>
void SlicedUpdate::ForBlocks(const ElementRange& range, size_t first_sum, size_t sums_a_block, Visit visit) const {
  for (int64_t at = range.first; at < range.end(); at += kBlock, first_sum += sums_a_block) {
    visit(ElementRange{at, std::min(kBlock, range.end() - at)}, first_sum);
  }
}

size_t SlicedUpdate::SumsOf(const ElementRange& range, size_t sums_a_block) const {
  return static_cast<size_t>((range.count + kBlock - 1) / kBlock) * sums_a_block;
}

uint32_t SlicedUpdate::SumOf(const float* array, const ElementRange& block) const {
  return kernels_->checksum(array + block.first, block.count);
}

const float* SlicedUpdate::StateArray(size_t i) const {
  return reinterpret_cast<const float*>(shared_.memory.data() + i * SharedArrayBytes(elements_, DType::kF32));
}

void SlicedUpdate::NoteMine(const ElementRange& block, size_t sums) {
  sums_[sums] = SumOf(parameters(), block);
  for (size_t i = 0; i < shared_arrays_; ++i) sums_[sums + 1 + i] = SumOf(StateArray(i), block);
}

void SlicedUpdate::CheckMine(const ElementRange& block, size_t sums) {
  damaged_ |= sums_[sums] != SumOf(parameters(), block);
  for (size_t i = 0; i < shared_arrays_; ++i) damaged_ |= sums_[sums + 1 + i] != SumOf(StateArray(i), block);
}

void SlicedUpdate::NoteAll() {
  ForBlocks(slice_, 0, 1 + shared_arrays_, [&](const ElementRange& block, size_t sums) { NoteMine(block, sums); });
  size_t first_sum = SumsOf(slice_, 1 + shared_arrays_);
  for (const auto& peer : reducer_->peer_slices()) {
    ForBlocks(peer.range, first_sum, 1,
              [&](const ElementRange& block, size_t sum) { sums_[sum] = SumOf(parameters(), block); });
    first_sum += SumsOf(peer.range, 1);
  }
}

void SlicedUpdate::UpdateMine(bool finite, double learning_rate, int64_t step, bool changes) {
  const Tensor w = model_->parameters();
  float* const sum = reducer_->sum().data();
  const Tensor gradient{sum, w.shape, DType::kF32};
  ForBlocks(slice_, 0, 1 + shared_arrays_, [&](const ElementRange& block, size_t sums) {
    CheckMine(block, sums);
    const FlatPart part{block.first, block.count};
    if (finite) {
      model_->UpdateMovingIn(gradient, part.first, part.count);
      optimizer_->StepPart(*device_, w, gradient, learning_rate, step, part);
    } else {
      optimizer_->SkipPart(*device_, w, gradient, learning_rate, step, part);
    }
    NoteMine(block, sums);
    // The gradient is used up: its place is what the others can see.
    if (changes) std::memcpy(sum + block.first, parameters() + block.first, block.count * sizeof(float));
  });
}

void SlicedUpdate::TakeOthers() {
  float* const w = model_->parameters().as<float>();
  size_t first_sum = SumsOf(slice_, 1 + shared_arrays_);
  for (const auto& peer : reducer_->peer_slices()) {
    ForBlocks(peer.range, first_sum, 1, [&](const ElementRange& block, size_t sum) {
      damaged_ |= sums_[sum] != SumOf(w, block);
      std::memcpy(w + block.first, peer.values + block.first, block.count * sizeof(float));
      sums_[sum] = SumOf(w, block);
    });
    first_sum += SumsOf(peer.range, 1);
  }
}

}  // namespace lockstep
