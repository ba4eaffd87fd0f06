// SPDX-License-Identifier: Apache-2.0
#include "worker/train/recorded_steps.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"
#include "worker/train/gradient_ops.h"

namespace lockstep {

namespace {

Tensor Numbers(const double* data, int64_t count) { return {const_cast<double*>(data), Shape{count}, DType::kF64}; }

}  // namespace

RecordedSteps::RecordedSteps(RecordedParts parts)
    : parts_(std::move(parts)), scalars_(static_cast<size_t>(parts_.model->stats_width() + parts_.wishes)) {}

absl::StatusOr<std::unique_ptr<RecordedSteps>> RecordedSteps::Create(RecordedParts parts) {
  std::unique_ptr<RecordedSteps> steps(new RecordedSteps(std::move(parts)));
  LOCKSTEP_RETURN_IF_ERROR(steps->Build());
  return steps;
}

RecordedSteps::~RecordedSteps() {
  parts_.reducer->set_release(nullptr);
  parts_.device->recorder()->Forget();
}

absl::Status RecordedSteps::Build() {
  parts_.reducer->set_release([recorder = parts_.device->recorder()] { recorder->Forget(); });
  const auto numbers = static_cast<size_t>(parts_.wishes) + 2;
  LOCKSTEP_ASSIGN_OR_RETURN(buffer_, parts_.device->Allocate(numbers * sizeof(double)));
  auto* const memory = static_cast<double*>(buffer_->data());
  wishes_ = {memory, Shape{parts_.wishes}, DType::kF64};
  squares_ = {memory + parts_.wishes, Shape{1}, DType::kF64};
  scratch_ = {memory + parts_.wishes + 1, Shape{1}, DType::kF64};
  wished_.assign(static_cast<size_t>(parts_.wishes), 0.0);
  return parts_.sampler->PrepareRecording(parts_.batch_size, parts_.plan->steps_per_epoch());
}

absl::Status RecordedSteps::Prepare(int64_t step, double loss_scale) {
  StepRecorder& recorder = *parts_.device->recorder();
  if (recorder.ready() && recorded_scale_ == loss_scale) return absl::OkStatus();
  recorded_scale_.reset();
  LOCKSTEP_RETURN_IF_ERROR(recorder.Record({.step = step,
                                            .results = static_cast<int64_t>(scalars_) + 1,
                                            .body = [this, step, loss_scale] { return Body(step, loss_scale); },
                                            .update =
                                                [this](int64_t at) {
                                                  parts_.optimizer->Step(*parts_.device, parts_.model->parameters(),
                                                                         Flat(parts_.reducer->sum()), parts_.rate(at),
                                                                         at);
                                                },
                                            .kept = parts_.model->parameters(),
                                            .keep_every = parts_.keep_every}));
  recorded_scale_ = loss_scale;
  results_.resize(static_cast<size_t>(recorder.max_steps()) * (scalars_ + 1));
  return absl::OkStatus();
}

int64_t RecordedSteps::MaxSteps(int64_t step) const {
  const StepRecorder& recorder = *parts_.device->recorder();
  // What comes behind the last step is not kept.
  const int64_t until_full = (recorder.max_kept() + 1) * parts_.keep_every - step % parts_.keep_every;
  return std::min(recorder.max_steps(), until_full);
}

std::span<const std::byte> RecordedSteps::parameters(int64_t i) const {
  return parts_.device->recorder()->kept((first_step_ + i + 1) / parts_.keep_every - first_step_ / parts_.keep_every -
                                         1);
}

absl::Status RecordedSteps::Shard(int64_t step, int shard, double scale) {
  Device& device = *parts_.device;
  const RowRange rows = parts_.plan->ShardRows(parts_.batch_size, shard);
  const Batch batch = parts_.sampler->RecordTake(*device.recorder(), rows.first, rows.size());
  double* const scalars = parts_.reducer->shard_scalars();
  const int width = parts_.model->stats_width();
  // Decide leaves zeros where there is but one.
  if (parts_.plan->shards() > 1) device.Fill({scalars, Shape{static_cast<int64_t>(scalars_)}, DType::kF64}, 0);
  // They go with the rank's first shard.
  if (shard == parts_.owned.first && !parts_.alone) {
    device.Copy(wishes_, {scalars + width, wishes_.shape, DType::kF64});
  }
  parts_.model->ForwardBackward({.device = &device,
                                 .training = true,
                                 .seed = parts_.seed,
                                 .step = step,
                                 .first_row = rows.first,
                                 .batch_rows = parts_.batch_size,
                                 .watcher = parts_.watcher},
                                batch, scale, Flat(parts_.reducer->shard_gradient()),
                                {scalars, Shape{width}, DType::kF64}, nullptr);
  return parts_.reducer->CommitShard();
}

Tensor RecordedSteps::Sums() const { return Numbers(parts_.reducer->scalar_sums(), static_cast<int64_t>(scalars_)); }

absl::Status RecordedSteps::Body(int64_t step, double loss_scale) {
  Device& device = *parts_.device;
  for (int shard = parts_.owned.first; shard < parts_.owned.end; ++shard) {
    LOCKSTEP_RETURN_IF_ERROR(Shard(step, shard, loss_scale / static_cast<double>(parts_.batch_size)));
  }
  LOCKSTEP_RETURN_IF_ERROR(parts_.reducer->Finish());
  const Tensor gradient = Flat(parts_.reducer->sum());
  Unscale(device, *parts_.model, loss_scale, gradient, scratch_);
  if (parts_.model->objective().wants_gradient_norm()) SumSquaresOf(device, *parts_.model, gradient, squares_);
  device.recorder()->Decide(Sums(), squares_, Numbers(parts_.reducer->not_finite(), 1), gradient);
  parts_.model->UpdateMoving(gradient);
  return absl::OkStatus();
}

absl::Status RecordedSteps::Start(int64_t step, int64_t count, std::span<const double> wishes) {
  if (!std::ranges::equal(wishes, wished_)) {
    std::ranges::copy(wishes, wished_.begin());
    if (!parts_.alone) parts_.device->CopyFromHost(wishes_.data, wished_.data(), wishes_.bytes());
  }
  parts_.device->Fill(Sums(), 0);
  first_step_ = step;
  return parts_.device->recorder()->Start(step, count);
}

absl::StatusOr<int64_t> RecordedSteps::Finish() { return parts_.device->recorder()->Finish(results_); }

}  // namespace lockstep
