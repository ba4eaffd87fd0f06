// SPDX-License-Identifier: Apache-2.0
// Steps that the device does by itself, many in one run.
#include <algorithm>
#include <cmath>

#include "common/digest.h"
#include "common/status_macros.h"
#include "worker/train/trainer.h"

namespace lockstep {

namespace {

// Every so many steps one goes through the host, which sees how long its phases take.
constexpr int64_t kTimedInterval = 1024;
// Until it is known how long a step takes.
constexpr int64_t kFirstRun = 4;

// Steps until the next multiple of `interval`, at least 1.
int64_t Until(int64_t step, int64_t interval) { return interval - step % interval; }

}  // namespace

absl::Status Trainer::PrepareRecordedSteps() {
  // Failpoints lie between the phases of a step, and what is accumulated makes steps differ.
  const bool same_steps = optimizer_->changes_parameters(0);
  const v1::TrainingSpec& training = config_.spec.training();
  if (training.has_step_graph() && !training.step_graph()) return absl::OkStatus();
  if (failpoints_ != nullptr || !same_steps || whole_batch_ != nullptr) return absl::OkStatus();
  if (device_->recorder() == nullptr || gradients_->enqueued() == nullptr) return absl::OkStatus();
  if (!train_sampler_->gathers_on_device()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<RecordedSteps>> recorded =
      RecordedSteps::Create({.device = device_,
                             .model = model_.get(),
                             .optimizer = optimizer_.get(),
                             .sampler = train_sampler_.get(),
                             .reducer = gradients_->enqueued(),
                             .watcher = gradients_->watcher(),
                             .owned = owned_,
                             .plan = &step_plan_,
                             .batch_size = training.batch_size(),
                             .wishes = kWishes,
                             .alone = communicator_->size() == 1,
                             .seed = config_.spec.seed(),
                             .keep_every = digest_interval_,
                             .rate = [this](int64_t step) { return Rate(step); }});
  if (!recorded.ok()) return recorded.status();
  recorded_ = std::move(*recorded);
  return absl::OkStatus();
}

// The same on every rank: it depends on the step, and on what all ranks agreed on.
int64_t Trainer::RecordableSteps(int64_t step) const {
  if (recorded_ == nullptr || !warm_ || step == halted_step_ || step % kTimedInterval == 0) return 0;
  const int64_t batch = config_.spec.training().batch_size();
  if (step_plan_.At(step).rows != batch) return 0;
  // The epoch's last step may be none for a run.
  const int64_t per_epoch = step_plan_.steps_per_epoch();
  const int64_t whole = per_epoch - (step_plan_.At(per_epoch - 1).rows == batch ? 0 : 1);
  int64_t count = std::min(config_.plan.total_steps - step, whole - step % per_epoch);
  count = std::min(count, Until(step, kTimedInterval));
  count = std::min(count, Until(step, CheckpointInterval()));
  if (loss_scale_) count = std::min(count, loss_scale_->StepsUntilGrowth(loss_scale_state()));
  const double seconds = all_recorded_step_seconds_ / communicator_->size();
  const double fit = seconds > 0 ? config_.run_seconds / seconds : kFirstRun;
  return std::min(count, static_cast<int64_t>(std::max(1.0, std::min(fit, 1e6))));
}

absl::StatusOr<int64_t> Trainer::RunRecorded(int64_t step, int64_t count) {
  const ScopedRange range(config_.ranges, "recorded steps");
  LOCKSTEP_RETURN_IF_ERROR(recorded_->Prepare(step, CurrentLossScale()));
  count = std::min(count, recorded_->MaxSteps(step));
  for (int64_t i = 0; i < count; ++i) {
    LOCKSTEP_RETURN_IF_ERROR(link_->AwaitLease(step + i));
    // Alone it can stop at once; several must all do the same steps.
    if (communicator_->size() == 1 && link_->stop_request() != StopRequest::kNone) count = i + 1;
  }
  const double began = Seconds();
  LOCKSTEP_RETURN_IF_ERROR(recorded_->Start(step, count, Wishes()));
  LOCKSTEP_RETURN_IF_ERROR(gradients_->enqueued()->Await([this] { return recorded_->Reached(); }));
  LOCKSTEP_ASSIGN_OR_RETURN(const int64_t done, recorded_->Finish());
  train_sampler_->Skip(done * (owned_.end - owned_.first));
  if (done < count) halted_step_ = step + done;
  Account(step, done, Seconds() - began);
  return done;
}

void Trainer::Account(int64_t first, int64_t done, double seconds) {
  if (done == 0) return;
  const int64_t rows = config_.spec.training().batch_size();
  for (int64_t i = 0; i < done; ++i) {
    const std::span<const double> sums = recorded_->sums(i);
    std::ranges::copy(sums, step_sums_.begin());
    if (model_->objective().wants_gradient_norm()) {
      model_->objective().AddGradientNorm(std::sqrt(recorded_->squares(i)), step_sums_);
    }
    if (loss_scale_) loss_scale_->Observe(true, loss_scale_state());
    reporter_.AddStep(step_sums_, rows, nullptr, state_);
    const int64_t behind = first + i + 1;
    // The last one's are still there.
    if (i + 1 < done && behind % digest_interval_ == 0) AddDigest(behind, FastDigest(recorded_->parameters(i)));
  }
  TakeWishes(recorded_->wishes(done - 1));
  reporter_.AddRun(seconds, done);
  recorded_step_seconds_ = seconds / static_cast<double>(done);
  recorded_steps_ += done;
  timed_ = true;
}

}  // namespace lockstep
