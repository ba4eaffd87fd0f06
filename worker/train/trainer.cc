// SPDX-License-Identifier: Apache-2.0
#include "worker/train/trainer.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status_macros.h"
#include "worker/train/checkpoint.h"

namespace lockstep {

namespace {

// Behind the loss's own sums, each rank's wishes ride along in the reduction: where any rank's is not
// zero, all ranks stop after this very step.
constexpr int kStopScalar = 0;
constexpr int kCheckpointScalar = 1;
constexpr int kWishes = 2;

}  // namespace

Trainer::Trainer(TrainerConfig config, Device* device, Communicator* communicator, CoordinatorLink* link,
                 const Clock* clock)
    : config_(std::move(config)),
      device_(device),
      communicator_(communicator),
      link_(link),
      clock_(clock),
      step_plan_(config_.plan.dataset.train_samples, config_.spec.training().batch_size(), config_.plan.logical_shards),
      owned_(OwnedShards(communicator->rank(), communicator->size(), config_.plan.logical_shards)),
      reporter_(clock, config_.plan.dataset.classification, config_.plan.total_steps, config_.generation) {}

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(TrainerConfig config, Device* device,
                                                         Communicator* communicator, const Dataset* dataset,
                                                         CoordinatorLink* link, const Clock* clock) {
  std::unique_ptr<Trainer> trainer(new Trainer(std::move(config), device, communicator, link, clock));
  LOCKSTEP_RETURN_IF_ERROR(trainer->Build(*dataset));
  return trainer;
}

absl::Status Trainer::Build(const Dataset& dataset) {
  const v1::JobSpec& spec = config_.spec;
  const int64_t shard_rows = step_plan_.max_shard_rows();
  LOCKSTEP_ASSIGN_OR_RETURN(model_, Model::Create(device_, config_.plan.model, spec.loss(), DType::kF32,
                                                  std::max(shard_rows, Evaluator::kChunkRows)));
  model_->Initialize(spec.seed());
  const int64_t elements = model_->parameters().elements();
  LOCKSTEP_ASSIGN_OR_RETURN(optimizer_, MakeOptimizer(spec.optimizer(), *device_, elements, DType::kF32));
  LOCKSTEP_ASSIGN_OR_RETURN(train_sampler_,
                            Sampler::Create(device_, dataset.train(), dataset.sample_shape(), shard_rows));
  LOCKSTEP_ASSIGN_OR_RETURN(test_sampler_,
                            Sampler::Create(device_, dataset.test(), dataset.sample_shape(), Evaluator::kChunkRows));
  const int width = model_->loss().stats_width();
  LOCKSTEP_ASSIGN_OR_RETURN(stats_buffer_, device_->Allocate(static_cast<size_t>(width) * sizeof(double)));
  stats_ = {stats_buffer_->data(), Shape{width}, DType::kF64};
  evaluator_ = std::make_unique<Evaluator>(device_, communicator_, model_.get(), test_sampler_.get(), stats_);
  reducer_ = std::make_unique<TreeReducer>(communicator_, config_.plan.logical_shards, elements, width + kWishes);
  if (!config_.resume_checkpoint.empty()) {
    LOCKSTEP_ASSIGN_OR_RETURN(const Restored restored,
                              LoadCheckpoint(config_.resume_checkpoint, *device_, *model_, *optimizer_));
    if (restored.step != config_.first_step) {
      return absl::DataLossError(
          absl::StrCat(config_.resume_checkpoint, " is of step ", restored.step, ", not ", config_.first_step));
    }
    reporter_.epoch_sums = restored.epoch_sums;
  }
  return absl::OkStatus();
}

absl::StatusOr<Trainer::Result> Trainer::Run() {
  const int64_t total = config_.plan.total_steps;
  const int64_t interval = config_.spec.training().checkpoint_interval_steps();
  int64_t step = config_.first_step;
  reporter_.Begin(step);
  epoch_began_ = Seconds();
  while (step < total && !stop_) {
    LOCKSTEP_RETURN_IF_ERROR(link_->AwaitLease(step));
    LOCKSTEP_RETURN_IF_ERROR(Step(step));
    const bool ends_epoch = step_plan_.At(step).ends_epoch;
    ++step;
    if (ends_epoch || step == total || stop_ || reporter_.Due()) Commit(step);
    if (ends_epoch) LOCKSTEP_RETURN_IF_ERROR(EndEpoch(step));
    const bool due = interval > 0 ? step % interval == 0 : ends_epoch;
    if ((due && step < total) || (stop_ && stop_with_checkpoint_)) LOCKSTEP_RETURN_IF_ERROR(Checkpoint(step));
  }
  if (step < total) return Result{false, step};
  LOCKSTEP_RETURN_IF_ERROR(SaveFinalModel(step));
  return Result{true, step};
}

absl::Status Trainer::Step(int64_t step) {
  const StepPlace place = step_plan_.At(step);
  if (place.epoch != order_epoch_) {
    order_.emplace(static_cast<uint64_t>(train_sampler_->samples()), config_.spec.seed(),
                   static_cast<uint64_t>(place.epoch));
    order_epoch_ = place.epoch;
  }
  StepSeconds seconds;
  for (int shard = owned_.first; shard < owned_.end; ++shard) ComputeShard(step, place, shard, seconds);

  const double before_reduction = Seconds();
  LOCKSTEP_RETURN_IF_ERROR(reducer_->Finish());
  const double before_update = Seconds();
  seconds.allreduce = before_update - before_reduction;

  const std::span<const double> sums = reducer_->scalar_sums();
  const int width = model_->loss().stats_width();
  const LossSums loss_sums = model_->loss().Sums(sums.data());
  if (!std::isfinite(loss_sums.loss)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the loss is not a finite number in step ", step, " (epoch ", place.epoch + 1,
                     "): training diverges; lower the learning rate, or look for extreme values in the data"));
  }
  stop_ = sums[width + kStopScalar] != 0;
  stop_with_checkpoint_ = sums[width + kCheckpointScalar] != 0;

  const Tensor gradient{reducer_->sum().data(), model_->parameters().shape, DType::kF32};
  optimizer_->Step(*device_, model_->parameters(), gradient,
                   LearningRate(config_.spec.schedule(), optimizer_->base_learning_rate(), step), step);
  seconds.optimizer = Seconds() - before_update;
  reporter_.AddStep(loss_sums, place.rows, seconds);
  return absl::OkStatus();
}

// One shard's gradient, scaled so that the sum over all shards is the mean over the step's samples.
void Trainer::ComputeShard(int64_t step, const StepPlace& place, int shard, StepSeconds& seconds) {
  const double began = Seconds();
  const RowRange rows = step_plan_.ShardRows(place.rows, shard);
  const Batch batch = train_sampler_->Shuffled(*order_, place.first_position + rows.first, rows.size());
  const double loaded = Seconds();
  const StepContext context{
      .device = device_, .training = true, .seed = config_.spec.seed(), .step = step, .first_row = rows.first};
  const Tensor gradient{reducer_->shard_gradient().data(), model_->parameters().shape, DType::kF32};
  const std::span<double> scalars = reducer_->shard_scalars();
  const int width = model_->loss().stats_width();
  double forward = 0;
  device_->Fill(stats_, 0);
  model_->ForwardBackward(context, batch, 1.0 / static_cast<double>(place.rows), gradient, stats_, &forward);
  device_->CopyToHost(scalars.data(), stats_.data, stats_.bytes());
  if (shard == owned_.first) {
    const StopRequest request = link_->stop_request();
    scalars[width + kStopScalar] = request == StopRequest::kNone ? 0 : 1;
    scalars[width + kCheckpointScalar] = request == StopRequest::kStopWithCheckpoint ? 1 : 0;
  }
  const double computed = Seconds();
  reducer_->CommitShard();
  seconds.data += loaded - began;
  seconds.forward += forward;
  seconds.backward += computed - loaded - forward;
  seconds.allreduce += Seconds() - computed;
}

absl::Status Trainer::EndEpoch(int64_t step) {
  LOCKSTEP_ASSIGN_OR_RETURN(const LossSums test_sums, evaluator_->Run());
  ReportDigest(step);
  const Reporter::EpochSums train = std::exchange(reporter_.epoch_sums, {});
  if (communicator_->rank() == 0) {
    const bool classification = config_.plan.dataset.classification;
    const int64_t target_width = config_.plan.dataset.target_width;
    const Scores train_scores = Score(train.sums, train.rows, target_width, classification);
    v1::SessionRequest report;
    v1::EpochCompleted& epoch = *report.mutable_epoch_completed();
    epoch.set_epoch(step_plan_.At(step - 1).epoch + 1);
    epoch.set_total_epochs(config_.spec.training().epochs());
    epoch.set_step(step);
    epoch.set_train_loss(train_scores.loss);
    if (classification) epoch.set_train_accuracy(train_scores.accuracy);
    if (test_sampler_->samples() > 0) {
      const Scores scores = Score(test_sums, test_sampler_->samples(), target_width, classification);
      epoch.set_test_loss(scores.loss);
      if (classification) {
        epoch.set_test_accuracy(scores.accuracy);
      } else {
        epoch.set_test_r_squared(scores.r_squared);
      }
    }
    device_->Synchronize();
    const Tensor parameters = model_->parameters();
    epoch.set_digest(FastDigest({parameters.as<std::byte>(), parameters.bytes()}));
    epoch.set_epoch_seconds(Seconds() - epoch_began_);
    link_->Report(std::move(report));
  }
  epoch_began_ = Seconds();
  reporter_.Begin(step);
  return absl::OkStatus();
}

void Trainer::Commit(int64_t step) {
  const double rate = LearningRate(config_.spec.schedule(), optimizer_->base_learning_rate(), step - 1);
  v1::StepsCommitted range = reporter_.Take(rate);
  if (communicator_->rank() != 0 || range.first_step() == range.end_step()) return;
  v1::SessionRequest report;
  *report.mutable_commit_steps()->mutable_steps() = std::move(range);
  link_->Report(std::move(report));
}

void Trainer::ReportDigest(int64_t step) {
  device_->Synchronize();
  const Tensor parameters = model_->parameters();
  v1::SessionRequest report;
  v1::DigestReport& digest = *report.mutable_digest_report();
  digest.set_generation(config_.generation);
  digest.set_step(step);
  digest.set_digest(FastDigest({parameters.as<std::byte>(), parameters.bytes()}));
  link_->Report(std::move(report));
}

absl::Status Trainer::Checkpoint(int64_t step) {
  if (communicator_->rank() == 0) {
    LOCKSTEP_ASSIGN_OR_RETURN(const SavedFile saved, SaveCheckpoint(config_.output_dir, step, *device_, *model_,
                                                                    *optimizer_, reporter_.epoch_sums));
    v1::SessionRequest report;
    v1::CheckpointSaved& checkpoint = *report.mutable_checkpoint_saved();
    checkpoint.set_step(step);
    checkpoint.set_path(saved.path);
    checkpoint.set_parameters_sha256(saved.parameters_sha256);
    checkpoint.set_bytes(saved.bytes);
    link_->Report(std::move(report));
  }
  reporter_.Begin(step);
  return absl::OkStatus();
}

absl::Status Trainer::SaveFinalModel(int64_t step) {
  if (communicator_->rank() != 0) return absl::OkStatus();
  LOCKSTEP_ASSIGN_OR_RETURN(const SavedFile saved, SaveModel(config_.output_dir, step, *device_, *model_));
  v1::SessionRequest report;
  v1::CheckpointSaved& checkpoint = *report.mutable_checkpoint_saved();
  checkpoint.set_step(step);
  checkpoint.set_path(saved.path);
  checkpoint.set_parameters_sha256(saved.parameters_sha256);
  checkpoint.set_bytes(saved.bytes);
  checkpoint.set_final(true);
  link_->Report(std::move(report));
  return absl::OkStatus();
}

double Trainer::Seconds() const { return std::chrono::duration<double>(clock_->Now().time_since_epoch()).count(); }

}  // namespace lockstep
