// SPDX-License-Identifier: Apache-2.0
// RecordedSteps: a job's ordinary steps, whole ones without anything to be told of in between, run by the device alone
// (StepRecorder). Gather, forward, backward, the sum over all ranks, the update: all in one recording. What is not
// ordinary stays with the trainer's loop, which does the step that halted a run again. The bits are the same either
// way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/comm/reducer.h"
#include "worker/comm/tree_plan.h"
#include "worker/device/step_recorder.h"
#include "worker/nn/model.h"
#include "worker/optim/optimizer.h"
#include "worker/train/sampler.h"
#include "worker/train/step_plan.h"

namespace lockstep {

// All pointers outlive the recorded steps.
struct RecordedParts {
  Device* device = nullptr;
  Model* model = nullptr;
  Optimizer* optimizer = nullptr;
  Sampler* sampler = nullptr;
  EnqueuedReducer* reducer = nullptr;
  // Whom backward tells what it has written; may be null.
  GradientWatcher* watcher = nullptr;
  ShardRange owned;
  const StepPlan* plan = nullptr;
  int64_t batch_size = 0;
  // Of the reducer's scalars, behind the model's sums.
  int wishes = 0;
  // There are no other ranks to hear of them.
  bool alone = false;
  uint64_t seed = 0;
  // The parameters are brought to the host after each multiple of so many steps.
  int64_t keep_every = 1;
  // The learning rate of a step.
  std::function<double(int64_t step)> rate;
};

// Of the trainer's thread.
class RecordedSteps {
 public:
  // RESOURCE_EXHAUSTED where memory is short.
  static absl::StatusOr<std::unique_ptr<RecordedSteps>> Create(RecordedParts parts);
  // Forgets what is recorded, before whom it sums with is left.
  ~RecordedSteps();
  RecordedSteps(const RecordedSteps&) = delete;
  RecordedSteps& operator=(const RecordedSteps&) = delete;

  // Records, where nothing is recorded that still holds, or the loss scale is another. Every shape of a step was
  // computed before. Errors: StepRecorder::Record.
  absl::Status Prepare(int64_t step, double loss_scale);
  // The most steps of a run from this one on.
  int64_t MaxSteps(int64_t step) const;
  // Begins steps [step, step + count). wishes: what this rank adds to the sums, as many as in RecordedParts.
  absl::Status Start(int64_t step, int64_t count, std::span<const double> wishes);
  // See StepRecorder.
  absl::StatusOr<bool> Reached() { return parts_.device->recorder()->Reached(); }
  absl::StatusOr<int64_t> Finish();

  // Of the i-th step that was done, over all ranks: the model's sums, the wishes, and the gradient's squares.
  std::span<const double> sums(int64_t i) const { return Row(i).first(scalars_ - wished_.size()); }
  std::span<const double> wishes(int64_t i) const {
    return parts_.alone ? wished_ : Row(i).subspan(scalars_ - wished_.size(), wished_.size());
  }
  double squares(int64_t i) const { return Row(i)[scalars_]; }
  // The parameters behind the i-th step, where they were kept.
  std::span<const std::byte> parameters(int64_t i) const;

 private:
  explicit RecordedSteps(RecordedParts parts);
  absl::Status Build();
  absl::Status Body(int64_t step, double loss_scale);
  // The gradient that lies there.
  Tensor Flat(float* data) const { return {data, parts_.model->parameters().shape, DType::kF32}; }
  // All ranks' sums.
  Tensor Sums() const;
  absl::Status Shard(int64_t step, int shard, double scale);
  std::span<const double> Row(int64_t i) const {
    return std::span(results_).subspan(static_cast<size_t>(i) * (scalars_ + 1), scalars_ + 1);
  }

  const RecordedParts parts_;
  const size_t scalars_;
  std::unique_ptr<Buffer> buffer_;
  // kF64 on the device: this rank's wishes, the gradient's squares, and scratch.
  Tensor wishes_, squares_, scratch_;
  std::vector<double> wished_;
  std::vector<double> results_;
  std::optional<double> recorded_scale_;
  // Of the newest run.
  int64_t first_step_ = 0;
};

}  // namespace lockstep
