// SPDX-License-Identifier: Apache-2.0
#include "worker/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/model/input_plan.h"
#include "common/model/trained_model.h"
#include "common/status_macros.h"
#include "worker/nn/precision.h"
#include "worker/nn/range_observer.h"
#include "worker/train/failure.h"
#include "worker/train/out_of_memory.h"
#include "worker/train/start_times.h"

namespace lockstep {

namespace {

constexpr int64_t kDefaultDigestInterval = 100;
constexpr int kDefaultKeep = 3;

std::optional<LossScale> MakeLossScale(const TrainerConfig& config) {
  const v1::TrainingSpec& training = config.spec.training();
  if (training.precision() != v1::PRECISION_MIXED_FLOAT16 && !config.scale_loss) return std::nullopt;
  return LossScale(training.loss_scale());
}

}  // namespace

Trainer::Trainer(TrainerConfig config, Device* device, Communicator* communicator, CoordinatorLink* link,
                 const Clock* clock, Failpoints* failpoints)
    : config_(std::move(config)),
      device_(device),
      communicator_(communicator),
      link_(link),
      clock_(clock),
      failpoints_(failpoints),
      step_plan_(config_.plan.dataset.train_samples, config_.spec.training().batch_size(), config_.plan.logical_shards),
      owned_(OwnedShards(communicator->rank(), communicator->size(), config_.plan.logical_shards)),
      digest_interval_(config_.spec.training().digest_interval_steps() > 0
                           ? config_.spec.training().digest_interval_steps()
                           : kDefaultDigestInterval),
      fastest_(config_.spec.training().reduction() == v1::REDUCTION_FASTEST),
      judge_(config_.spec, config_.plan.dataset.test_samples > 0),
      loss_scale_(MakeLossScale(config_)),
      reporter_(clock, config_.plan.total_steps, config_.generation) {}

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(TrainerConfig config, Device* device,
                                                         Communicator* communicator, const Dataset* dataset,
                                                         CoordinatorLink* link, const Clock* clock,
                                                         Failpoints* failpoints) {
  std::unique_ptr<Trainer> trainer(new Trainer(std::move(config), device, communicator, link, clock, failpoints));
  if (absl::Status status = trainer->Build(*dataset); !status.ok()) return trainer->Explained(std::move(status));
  return trainer;
}

absl::Status Trainer::Explained(absl::Status status) const {
  return ExplainMemory(std::move(status), config_.spec, config_.plan, communicator_->rank(), communicator_->size());
}

absl::Status Trainer::Build(const Dataset& dataset) {
  const v1::JobSpec& spec = config_.spec;
  const int64_t shard_rows = step_plan_.max_shard_rows();
  LOCKSTEP_ASSIGN_OR_RETURN(
      model_,
      Model::Create(device_, config_.plan.model, spec.loss(), DType::kF32, std::max(shard_rows, Evaluator::kChunkRows),
                    PlanMetrics(spec, config_.plan.model.output.elements()), owned_.end - owned_.first,
                    ProductPrecisionOf(spec.training().precision())));
  if (config_.ranges != nullptr) {
    range_observer_ = std::make_unique<RangeObserver>(config_.ranges, config_.plan.model);
    model_->set_observer(range_observer_.get());
  }
  model_->Initialize(spec.seed());
  LoadInitialWeights();
  const int64_t elements = model_->parameters().elements();
  std::vector<OptimizedTensor> tensors;
  for (const ParameterView& view : model_->parameter_views()) {
    tensors.push_back({.name = view.name,
                       .offset = view.offset,
                       .elements = view.shape.elements(),
                       .trainable = view.trainable,
                       .l1 = view.l1,
                       .l2 = view.l2});
  }
  // The norm is of all the gradient.
  if (device_->host_accessible() && !model_->objective().wants_gradient_norm() && !fastest_) {
    // A gradient that is still scaled is not one for the optimizer.
    const int64_t min_elements = loss_scale_ ? INT64_MAX : config_.shared_update_elements;
    LOCKSTEP_ASSIGN_OR_RETURN(sliced_update_,
                              SlicedUpdate::Create(communicator_, spec.optimizer(), elements, min_elements));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(optimizer_, MakeOptimizer(spec.optimizer(), *device_, elements, DType::kF32,
                                                      std::move(tensors), judge_.restores_best(),
                                                      sliced_update_ ? sliced_update_->shared_state() : SharedState{}));
  optimizer_->Begin(*device_, model_->parameters());
  const int width = model_->stats_width();
  LOCKSTEP_ASSIGN_OR_RETURN(stats_buffer_, device_->Allocate(static_cast<size_t>(width + 1) * sizeof(double)));
  stats_ = {stats_buffer_->data(), Shape{width}, DType::kF64};
  flag_ = {static_cast<double*>(stats_buffer_->data()) + width, Shape{1}, DType::kF64};
  step_sums_.resize(static_cast<size_t>(width));
  reporter_.SetObjective(&model_->objective());
  if (model_->needs_whole_batch()) {
    LOCKSTEP_ASSIGN_OR_RETURN(whole_batch_, WholeBatch::Create(device_, model_.get(), communicator_,
                                                               config_.plan.logical_shards, owned_.end - owned_.first));
  }
  LOCKSTEP_RETURN_IF_ERROR(MakeReducer(elements, width + kWishes));
  // Samples may stay on the host, so they come last.
  LOCKSTEP_RETURN_IF_ERROR(PrepareInput(dataset));
  defers_product_ = DefersProduct();
  evaluator_ = std::make_unique<Evaluator>(device_, communicator_, model_.get(), test_sampler_.get(), stats_,
                                           &link_->progress());
  LOCKSTEP_RETURN_IF_ERROR(PrepareRecordedSteps());

  KeeperOptions options{.first_step = config_.first_step,
                        .resume_snapshot = config_.resume_snapshot,
                        .resume_checkpoint = config_.resume_checkpoint,
                        .saves = communicator_->rank() == 0,
                        .generation = config_.generation,
                        .output_dir = config_.output_dir,
                        .snapshot_path = config_.snapshot_path};
  Preprocessing preprocessing = PreprocessingOf(spec.dataset(), dataset.sample_shape());
  if (dataset.table_preprocessing() != nullptr) preprocessing.table = *dataset.table_preprocessing();
  options.model_metadata = ModelMetadata(spec, dataset.sample_shape(), preprocessing);
  options.model_plan = &config_.plan.model;
  options.trainer.sums.assign(static_cast<size_t>(width), 0.0);
  options.trainer.extra = EpochJudge::InitialState();
  if (loss_scale_) std::ranges::copy(loss_scale_->InitialState(), std::back_inserter(options.trainer.extra));
  options.keep.newest = spec.training().keep_checkpoints() > 0 ? spec.training().keep_checkpoints() : kDefaultKeep;
  if (spec.training().non_finite() == v1::NON_FINITE_POLICY_ROLL_BACK) {
    options.roll_back_step = CheckpointStep(config_.first_step);
  }
  keeper_ = std::make_unique<StateKeeper>(std::move(options), device_, model_.get(), optimizer_.get(), link_, clock_,
                                          failpoints_);
  LOCKSTEP_ASSIGN_OR_RETURN(state_, keeper_->Restore());
  SetTime(clock_->WallNow(), config_.start.mutable_model_ready());
  reporter_.SetStart(config_.start);
  return absl::OkStatus();
}

void Trainer::LoadInitialWeights() {
  for (const InitialTensor& tensor : std::exchange(config_.initial_weights, {})) {
    for (const ParameterView& view : model_->parameter_views()) {
      if (view.name != tensor.parameter) continue;
      device_->CopyFromHost(model_->parameters().as<float>() + view.offset, tensor.values.data(),
                            tensor.values.size() * sizeof(float));
    }
  }
}

absl::Status Trainer::PrepareInput(const Dataset& dataset) {
  const v1::JobSpec& spec = config_.spec;
  const InputPlan input = FitInput(spec, config_.plan.dataset, config_.plan.logical_shards, owned_.end - owned_.first);
  const int64_t limit = spec.dataset().memory_limit_bytes();
  if (limit > 0 && input.bytes > limit) {
    return Permanent(absl::InvalidArgumentError(
        absl::StrCat("dataset.memory_limit_bytes is ", limit, ", but with so few workers each holds ", input.bytes,
                     " bytes of samples at least; use more workers, or raise it")));
  }
  const Shape& sample = dataset.sample_shape();
  LOCKSTEP_ASSIGN_OR_RETURN(train_sampler_,
                            Sampler::Create(device_, dataset.train(), spec,
                                            {.sample = sample,
                                             .max_rows = step_plan_.max_shard_rows(),
                                             .slots = input.train_slots,
                                             .form = model_->FormOfSamples(step_plan_.max_shard_rows())}));
  LOCKSTEP_ASSIGN_OR_RETURN(test_sampler_, Sampler::Create(device_, dataset.test(), spec,
                                                           {.sample = sample,
                                                            .max_rows = Evaluator::kChunkRows,
                                                            .slots = input.test_slots,
                                                            .training = false,
                                                            .form = model_->FormOfSamples(Evaluator::kChunkRows)}));
  const int64_t owned = owned_.end - owned_.first;
  train_sampler_->Follow([this, owned](int64_t index) -> std::optional<Piece> {
    const int64_t step = config_.first_step + index / owned;
    if (step >= config_.plan.total_steps) return std::nullopt;
    return PieceOf(step_plan_.At(step), owned_.first + static_cast<int>(index % owned));
  });
  return absl::OkStatus();
}

Piece Trainer::PieceOf(const StepPlace& place, int shard) const {
  const RowRange rows = step_plan_.ShardRows(place.rows, shard);
  return {place.epoch, place.first_position + rows.first, rows.size()};
}

absl::Status Trainer::AgreeOnStart() {
  struct Start {
    int64_t step;
    int64_t records;
  };
  Start mine{config_.first_step, recorded_ != nullptr ? 1 : 0};
  std::vector<Start> theirs(communicator_->size(), mine);
  std::vector<Message> sends, receives;
  for (int peer = 0; peer < communicator_->size(); ++peer) {
    if (peer == communicator_->rank()) continue;
    sends.push_back({peer, std::as_writable_bytes(std::span(&mine, 1))});
    receives.push_back({peer, std::as_writable_bytes(std::span(&theirs[peer], 1))});
  }
  LOCKSTEP_RETURN_IF_ERROR(communicator_->Exchange(sends, receives));
  for (int peer = 0; peer < communicator_->size(); ++peer) {
    if (theirs[peer].step == mine.step) continue;
    return absl::FailedPreconditionError(absl::StrCat("it was told to start at step ", mine.step, " but rank ", peer,
                                                      " at step ", theirs[peer].step, "; the group starts again"));
  }
  // One whose samples do not fit goes through the host, and would hear of a stop at another step.
  if (!std::ranges::all_of(theirs, [](const Start& start) { return start.records != 0; })) recorded_.reset();
  return absl::OkStatus();
}

absl::StatusOr<Trainer::Result> Trainer::Run() {
  absl::StatusOr<Result> result = Train();
  recorded_.reset();
  return result;
}

absl::StatusOr<Trainer::Result> Trainer::Train() {
  LOCKSTEP_RETURN_IF_ERROR(AgreeOnStart());
  const int64_t total = config_.plan.total_steps;
  int64_t step = config_.first_step;
  reporter_.Begin(step);
  epoch_began_ = Seconds();
  // The state was kept after an epoch's last step and before its evaluation.
  if (state_.steps > 0 && step_plan_.At(step - 1).ends_epoch) {
    LOCKSTEP_RETURN_IF_ERROR(EndEpoch(step));
  }
  while (step < total && !stop_ && !stopped_early_) {
    const absl::StatusOr<int64_t> done = Steps(step);
    if (!done.ok()) return Explained(done.status());
    LOCKSTEP_RETURN_IF_ERROR(AfterStep(step += *done));
    link_->progress().Advance();
    link_->progress().phase.store(v1::Heartbeat::PHASE_STEP, std::memory_order_relaxed);
  }
  keeper_->Flush();
  if (step < total && !stopped_early_) return Result{false, step, recorded_steps_};
  LOCKSTEP_RETURN_IF_ERROR(SaveFinalModel(step));
  return Result{true, step, recorded_steps_};
}

absl::StatusOr<int64_t> Trainer::Steps(int64_t step) {
  if (const int64_t count = RecordableSteps(step); count > 0) {
    LOCKSTEP_ASSIGN_OR_RETURN(const int64_t done, RunRecorded(step, count));
    if (done > 0) return done;
  }
  LOCKSTEP_RETURN_IF_ERROR(Step(step));
  return 1;
}

absl::Status Trainer::Step(int64_t step) {
  const ScopedRange range(config_.ranges, "step");
  StepSeconds seconds;
  timed_ = reporter_.WantsTimes();
  const double began = Lap();
  LOCKSTEP_RETURN_IF_ERROR(link_->AwaitLease(step));
  seconds.lease = Lap() - began;
  const StepPlace place = step_plan_.At(step);
  LOCKSTEP_RETURN_IF_ERROR(HitFailpoint(failpoints_, "step.forward"));
  if (whole_batch_ != nullptr) {
    LOCKSTEP_RETURN_IF_ERROR(ComputeTogether(step, place, seconds));
  } else {
    for (int shard = owned_.first; shard < owned_.end; ++shard) {
      LOCKSTEP_RETURN_IF_ERROR(ComputeShard(step, place, shard, seconds));
    }
  }

  LOCKSTEP_RETURN_IF_ERROR(HitFailpoint(failpoints_, "step.allreduce"));
  const double before_reduction = Lap();
  LOCKSTEP_RETURN_IF_ERROR(InRange(config_.ranges, "gradient sum",
                                   [&] { return sliced_update_ ? sliced_update_->Sum() : gradients_->Finish(); }));
  const double before_update = Lap();
  seconds.allreduce += before_update - before_reduction;

  const std::span<const double> sums = gradients_->scalar_sums();
  const int width = model_->stats_width();
  TakeWishes(sums.subspan(width));

  LOCKSTEP_RETURN_IF_ERROR(HitFailpoint(failpoints_, "step.before_apply"));
  // All ranks hold the same sums, so all decide the same.
  const bool finite = std::isfinite(sums[0]) && GradientIsFinite();
  std::ranges::copy(sums.first(width), step_sums_.begin());
  LOCKSTEP_RETURN_IF_ERROR(InRange(config_.ranges, "update", [&] { return Apply(step, place, finite); }));
  seconds.optimizer = Lap() - before_update;
  const std::span<const double> applied = std::span(step_sums_).first(finite ? step_sums_.size() : 0);
  reporter_.AddStep(applied, finite ? place.rows : 0, timed_ ? &seconds : nullptr, state_);
  warm_ = warm_ || place.rows == config_.spec.training().batch_size();
  return HitFailpoint(failpoints_, "step.after_apply");
}

// One shard's gradient, scaled so that the sum over all shards is the mean over the step's samples.
absl::Status Trainer::ComputeShard(int64_t step, const StepPlace& place, int shard, StepSeconds& seconds) {
  const double began = Lap();
  const Piece piece = PieceOf(place, shard);
  LOCKSTEP_ASSIGN_OR_RETURN(const Batch batch,
                            InRange(config_.ranges, "data", [&] { return train_sampler_->Take(piece); }));
  const double loaded = Lap();
  StepContext context = ContextOf(step, place);
  context.first_row = piece.first - place.first_position;
  context.watcher = gradients_->watcher();
  if (defers_product_) *(context.deferred = &deferred_) = {};
  const Tensor gradient = gradients_->shard_gradient();
  const std::span<double> scalars = gradients_->shard_scalars();
  double forward = 0;
  device_->Fill(stats_, 0);
  model_->ForwardBackward(context, batch, GradientScale(place), gradient, stats_, timed_ ? &forward : nullptr);
  device_->CopyToHost(scalars.data(), stats_.data, stats_.bytes());
  LOCKSTEP_RETURN_IF_ERROR(device_->status());
  if (shard == owned_.first) std::ranges::copy(Wishes(), scalars.begin() + model_->stats_width());
  const double computed = Lap();
  gradients_->Commit();
  seconds.data += loaded - began;
  seconds.forward += forward;
  seconds.backward += computed - loaded - forward;
  seconds.allreduce += Lap() - computed;
  return absl::OkStatus();
}

StepContext Trainer::ContextOf(int64_t step, const StepPlace& place) const {
  return {.device = device_, .training = true, .seed = config_.spec.seed(), .step = step, .batch_rows = place.rows};
}

std::array<double, Trainer::kWishes> Trainer::Wishes() const {
  const StopRequest request = link_->stop_request();
  std::array<double, kWishes> wishes{};
  wishes[kStopScalar] = request == StopRequest::kNone ? 0 : 1;
  wishes[kCheckpointScalar] = request == StopRequest::kStopWithCheckpoint ? 1 : 0;
  wishes[kSecondsScalar] = recorded_step_seconds_;
  return wishes;
}

void Trainer::TakeWishes(std::span<const double> sums) {
  stop_ = sums[kStopScalar] != 0;
  stop_with_checkpoint_ = sums[kCheckpointScalar] != 0;
  all_recorded_step_seconds_ = sums[kSecondsScalar];
}

absl::Status Trainer::ComputeTogether(int64_t step, const StepPlace& place, StepSeconds& seconds) {
  const double began = Lap();
  for (int shard = owned_.first; shard < owned_.end; ++shard) {
    const Piece piece = PieceOf(place, shard);
    LOCKSTEP_ASSIGN_OR_RETURN(const Batch batch, train_sampler_->Take(piece));
    LOCKSTEP_RETURN_IF_ERROR(whole_batch_->Add(batch, piece.first - place.first_position));
  }
  const double loaded = Lap();
  LOCKSTEP_RETURN_IF_ERROR(whole_batch_->Compute(ContextOf(step, place), GradientScale(place)));
  const double computed = Lap();
  bool first = true;
  for (const ShardTask& task : whole_batch_->tasks()) {
    device_->Copy(task.gradient, gradients_->shard_gradient());
    device_->CopyToHost(gradients_->shard_scalars().data(), task.stats.data, task.stats.bytes());
    LOCKSTEP_RETURN_IF_ERROR(device_->status());
    if (std::exchange(first, false)) {
      std::ranges::copy(Wishes(), gradients_->shard_scalars().begin() + model_->stats_width());
    }
    gradients_->Commit();
  }
  seconds.data += loaded - began;
  // Forward and backward are not told apart, and the layers' sums over the batch are in between.
  seconds.backward += computed - loaded;
  seconds.allreduce += Lap() - computed;
  return absl::OkStatus();
}

absl::Status Trainer::AfterStep(int64_t step) {
  const int64_t total = config_.plan.total_steps;
  const bool ends_epoch = step_plan_.At(step - 1).ends_epoch;
  // Silent damage, for tests of what finds it.
  if (!HitFailpoint(failpoints_, "memory.flip").ok()) FlipBit();
  if (step % digest_interval_ == 0 || ends_epoch || step == total) AddDigest(step, Digest());
  const bool last = stop_ || step == total;
  if (ends_epoch || last || (timed_ && reporter_.Due(50 * keeper_->snapshot_seconds()))) {
    LOCKSTEP_RETURN_IF_ERROR(Commit(step, last));
  }
  if (ends_epoch) return EndEpoch(step);
  const bool due = CheckpointStep(step) == step && step < total;
  if (due) keeper_->MarkRollBack();
  if (due || (stop_ && stop_with_checkpoint_)) keeper_->Save(step, state_, std::nullopt);
  return absl::OkStatus();
}

absl::StatusOr<EpochScores> Trainer::ScoreEpoch() {
  const Objective& objective = model_->objective();
  EpochScores scores{objective.Score(state_.sums, std::max<int64_t>(1, state_.rows), /*training=*/true), {}};
  // The average of the weights, where there is one, is the model that is judged.
  optimizer_->SwapAverage(*device_, model_->parameters());
  LOCKSTEP_ASSIGN_OR_RETURN(const std::span<const double> test, evaluator_->Run());
  LOCKSTEP_RETURN_IF_ERROR(device_->status());
  optimizer_->SwapAverage(*device_, model_->parameters());
  const int64_t samples = test_sampler_->samples();
  if (samples > 0) scores.test = objective.Score(test, samples, /*training=*/false);
  return scores;
}

absl::Status Trainer::EndEpoch(int64_t step) {
  LOCKSTEP_ASSIGN_OR_RETURN(const EpochScores scores, ScoreEpoch());
  state_.BeginEpoch();
  const double rate = Rate(step - 1);
  const Verdict verdict = judge_.Observe(scores, state_.extra);
  score_ = verdict.score;
  stopped_early_ = verdict.stop && step < config_.plan.total_steps;
  if (verdict.best && judge_.restores_best()) optimizer_->KeepBest(*device_, model_->parameters());
  if (communicator_->rank() == 0) {
    v1::SessionRequest report;
    v1::EpochCompleted& epoch = *report.mutable_epoch_completed();
    epoch.set_epoch(step_plan_.At(step - 1).epoch + 1);
    epoch.set_total_epochs(config_.spec.training().epochs());
    epoch.set_step(step);
    scores.Report(epoch);
    epoch.set_learning_rate(rate);
    epoch.set_stopped_early(stopped_early_);
    epoch.set_digest(Digest());
    epoch.set_epoch_seconds(Seconds() - epoch_began_);
    link_->Report(std::move(report));
  }
  if (stopped_early_) return absl::OkStatus();
  if (CheckpointStep(step) == step && step < config_.plan.total_steps) {
    keeper_->MarkRollBack();
    keeper_->Save(step, state_, score_);
  } else if (stop_ && stop_with_checkpoint_) {
    keeper_->Save(step, state_, score_);
  }
  epoch_began_ = Seconds();
  reporter_.Begin(step);
  return absl::OkStatus();
}

int64_t Trainer::CheckpointInterval() const {
  const int64_t asked = config_.spec.training().checkpoint_interval_steps();
  return asked > 0 ? asked : step_plan_.steps_per_epoch();
}

int64_t Trainer::CheckpointStep(int64_t step) const { return step / CheckpointInterval() * CheckpointInterval(); }

absl::Status Trainer::Commit(int64_t step, bool last) {
  LOCKSTEP_RETURN_IF_ERROR(HitFailpoint(failpoints_, "commit.before"));
  v1::StepsCommitted range = reporter_.Take(Rate(step - 1));
  link_->progress().step_seconds.store(reporter_.SlowStepSeconds(), std::memory_order_relaxed);
  v1::SessionRequest report;
  if (communicator_->rank() != 0) {
    if (digests_.empty()) return absl::OkStatus();
    report.mutable_digest_report()->set_generation(config_.generation);
    report.mutable_digest_report()->mutable_digests()->Swap(&digests_);
    link_->Report(std::move(report));
    digests_.Clear();
    return absl::OkStatus();
  }
  v1::CommitSteps& commit = *report.mutable_commit_steps();
  *commit.mutable_steps() = std::move(range);
  commit.mutable_digests()->Swap(&digests_);
  digests_.Clear();
  commit.set_snapshot(keeper_->Snapshot(step, state_, last));
  const bool kept = commit.snapshot();
  const int64_t number = link_->Report(std::move(report));
  if (kept) keeper_->SnapshotReported(number);
  if (non_finite_steps_ > 0) {
    v1::SessionRequest warning;
    warning.mutable_warning()->set_kind(v1::WARNING_KIND_NON_FINITE);
    warning.mutable_warning()->set_message(
        absl::StrCat(std::exchange(non_finite_steps_, 0), " step(s) from step ", first_non_finite_,
                     " on had a loss or gradient that is not a finite number and were not applied"));
    link_->Report(std::move(warning));
  }
  return HitFailpoint(failpoints_, "commit.after");
}

absl::Status Trainer::SaveFinalModel(int64_t step) {
  if (communicator_->rank() != 0) return absl::OkStatus();
  const bool best = judge_.restores_best() && EpochJudge::HasBest(state_.extra);
  const auto swap = [&] {
    best ? optimizer_->SwapBest(*device_, model_->parameters())
         : optimizer_->SwapAverage(*device_, model_->parameters());
  };
  swap();
  const absl::StatusOr<SavedFile> written = keeper_->SaveFinal(step);
  swap();
  LOCKSTEP_ASSIGN_OR_RETURN(const SavedFile saved, written);
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

double Trainer::Rate(int64_t step) const {
  return LearningRate(config_.spec.schedule(), optimizer_->base_learning_rate(), step,
                      EpochJudge::Reductions(state_.extra));
}

double Trainer::Lap() const { return timed_ ? Seconds() : 0; }

double Trainer::Seconds() const { return std::chrono::duration<double>(clock_->Now().time_since_epoch()).count(); }

}  // namespace lockstep
