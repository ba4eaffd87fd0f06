// SPDX-License-Identifier: Apache-2.0
// Trainer: the loop. Every rank runs the same one, in lockstep.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/failpoints.h"
#include "common/model/initial_weights.h"
#include "common/model/job_plan.h"
#include "worker/comm/communicator.h"
#include "worker/data/dataset.h"
#include "worker/device/range_marker.h"
#include "worker/nn/model.h"
#include "worker/optim/optimizer.h"
#include "worker/optim/schedule.h"
#include "worker/train/coordinator_link.h"
#include "worker/train/epoch_judge.h"
#include "worker/train/epoch_scores.h"
#include "worker/train/evaluator.h"
#include "worker/train/gradient_sum.h"
#include "worker/train/loss_scale.h"
#include "worker/train/non_finite.h"
#include "worker/train/recorded_steps.h"
#include "worker/train/reporter.h"
#include "worker/train/sampler.h"
#include "worker/train/sliced_update.h"
#include "worker/train/state_keeper.h"
#include "worker/train/step_plan.h"
#include "worker/train/trainer_state.h"
#include "worker/train/whole_batch.h"

namespace lockstep {

struct TrainerConfig {
  lockstep::v1::JobSpec spec;
  JobPlan plan;
  int64_t generation = 0;
  // Where rank 0 writes; checked by the coordinator.
  std::string output_dir;
  // A checkpoint folder, or empty.
  std::string resume_checkpoint;
  // A file of snapshots, preferred, or empty.
  std::string resume_snapshot;
  int64_t first_step = 0;
  // Where rank 0 keeps snapshots, or empty.
  std::string snapshot_path;
  // Where the parameters that are named here start, instead of at their initialisers' values.
  std::vector<InitialTensor> initial_weights;
  // How the rank came so far.
  lockstep::v1::StartTimes start;
  // See SlicedUpdate. The bits do not depend on it.
  int64_t shared_update_elements = SlicedUpdate::kMinElements;
  // Told what each part of a step is, for a profiler; null: nobody watches. Outlives the trainer.
  RangeMarker* ranges = nullptr;
  // How several ranks sum on their devices; null: where the device's memory is not the host's, through the host.
  DeviceReducerFactory device_reducer;
  // Scales the loss as for MIXED_FLOAT16 whatever the precision; for tests. The bits do not depend on it as long as
  // nothing is too large or too small for a float.
  bool scale_loss = false;
  // A run of recorded steps takes about so long at most, so that wishes are heard and the watchdog sees progress.
  double run_seconds = 0.02;
};

class Trainer {
  // Behind the objective's sums, each rank's wishes ride along in the reduction: where any rank's is not zero, all
  // ranks stop after this very step.
  static constexpr int kStopScalar = 0;
  static constexpr int kCheckpointScalar = 1;
  // Seconds that a recorded step took the rank, so that all agree on how many the next run has.
  static constexpr int kSecondsScalar = 2;
  static constexpr int kWishes = 3;

 public:
  struct Result {
    // False: stopped at a step boundary because the coordinator asked.
    bool finished = false;
    int64_t step = 0;
    // Steps that the device did by itself, see RecordedSteps.
    int64_t recorded_steps = 0;
  };

  // All pointers outlive the trainer; `failpoints` may be null. Restores the state where there is one.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(TrainerConfig config, Device* device,
                                                         Communicator* communicator, const Dataset* dataset,
                                                         CoordinatorLink* link, const Clock* clock,
                                                         Failpoints* failpoints = nullptr);

  // Trains to the last step, or to the step boundary where the ranks agreed to stop.
  absl::StatusOr<Result> Run();

  // For tests.
  Model& model() { return *model_; }

 private:
  Trainer(TrainerConfig config, Device* device, Communicator* communicator, CoordinatorLink* link, const Clock* clock,
          Failpoints* failpoints);

  absl::Status Build(const Dataset& dataset);
  absl::StatusOr<Result> Train();
  // With what the rank wants, where memory is short.
  absl::Status Explained(absl::Status status) const;
  // Ranks that were told different places to start from must not mix them; and all record steps, or none.
  absl::Status AgreeOnStart();
  // Does the step, and those behind it that the device can do by itself. Returns how many.
  absl::StatusOr<int64_t> Steps(int64_t step);
  absl::Status Step(int64_t step);
  absl::Status PrepareRecordedSteps();
  // Steps from `step` on that one run may do; 0: the step is none for a run.
  int64_t RecordableSteps(int64_t step) const;
  // Waits for leases, and does up to `count` steps.
  absl::StatusOr<int64_t> RunRecorded(int64_t step, int64_t count);
  // A run of `done` steps is over.
  void Account(int64_t first, int64_t done, double seconds);
  absl::Status ComputeShard(int64_t step, const StepPlace& place, int shard, StepSeconds& seconds);
  absl::Status MakeReducer(int64_t elements, int scalars);
  void LoadInitialWeights();
  absl::Status PrepareInput(const Dataset& dataset);
  // Which samples a shard of a step is made of.
  Piece PieceOf(const StepPlace& place, int shard) const;
  // All owned shards at once, where the model needs it.
  absl::Status ComputeTogether(int64_t step, const StepPlace& place, StepSeconds& seconds);
  StepContext ContextOf(int64_t step, const StepPlace& place) const;
  // This rank's; they go with its first shard.
  std::array<double, kWishes> Wishes() const;
  void TakeWishes(std::span<const double> sums);
  // The newest step's sum.
  bool GradientIsFinite();
  bool IsFinite(Tensor part);
  // Nobody but the update wants a kernel's gradient.
  bool DefersProduct() const;
  // The flat arrays but for the deferred gradient's place.
  std::array<FlatPart, 2> BesidesDeferred(Tensor gradient) const;
  // The update does not need it, and it is finite for sure.
  bool MayStayDeferred(Tensor gradient) const;
  // Works the deferred gradient out after all, where there is one.
  void MakeDeferred();
  // A step of plain SGD.
  void StepDeferred(Tensor gradient, double rate, int64_t step);
  // The part of state_ that is the loss scale's.
  std::span<double> loss_scale_state() { return std::span(state_.extra).last(LossScale::kNumbers); }
  std::span<const double> loss_scale_state() const { return std::span(state_.extra).last(LossScale::kNumbers); }
  // 1 where the loss is not scaled.
  double CurrentLossScale() { return loss_scale_ ? LossScale::Scale(loss_scale_state()) : 1; }
  // What a sample's loss counts in the gradient.
  double GradientScale(const StepPlace& place) { return CurrentLossScale() / static_cast<double>(place.rows); }
  // Updates the parameters, or skips the step where loss or gradient is not finite.
  absl::Status Apply(int64_t step, const StepPlace& place, bool finite);
  // To step_sums_, where a metric wants it.
  void AddGradientNorm(Tensor gradient);
  // The step's loss or its sum of gradients is not finite, which all ranks see.
  absl::Status OnNonFinite(int64_t step, const StepPlace& place, Tensor gradient);
  // Does this rank's shards of the step again and looks where it began; what all ranks agree on, in words. A
  // collective.
  absl::StatusOr<std::string> FindNonFinite(int64_t step, const StepPlace& place, Tensor gradient);
  // Looks through one shard, whose newest pass is in the model's lane.
  void LookThrough(int shard, size_t lane, const Batch& batch, Tensor gradient, Tensor stats, NonFiniteRecord& first);
  // What is due once `step` steps are done.
  absl::Status AfterStep(int64_t step);
  absl::Status EndEpoch(int64_t step);
  // Of the epoch whose last step was just done: the same on every rank.
  absl::StatusOr<EpochScores> ScoreEpoch();
  // The step up to which `step` steps' newest checkpoint is due.
  int64_t CheckpointStep(int64_t step) const;
  int64_t CheckpointInterval() const;
  void AddDigest(int64_t step, std::string digest);
  std::string Digest();
  // Changes a bit of the parameters.
  void FlipBit();
  absl::Status Commit(int64_t step, bool last);
  absl::Status SaveFinalModel(int64_t step);
  // The learning rate of a step.
  double Rate(int64_t step) const;
  double Seconds() const;
  // The same in a step that is timed.
  double Lap() const;

  TrainerConfig config_;
  Device* device_;
  Communicator* communicator_;
  CoordinatorLink* link_;
  const Clock* clock_;
  Failpoints* failpoints_;
  StepPlan step_plan_;
  ShardRange owned_;
  const int64_t digest_interval_;
  // The job does not ask for the same bits.
  const bool fastest_;
  const EpochJudge judge_;
  // Nothing: the loss is not scaled. Its state lies behind the judge's.
  const std::optional<LossScale> loss_scale_;

  // Null: nobody watches.
  std::unique_ptr<NodeObserver> range_observer_;
  std::unique_ptr<Model> model_;
  // Null where each rank does the whole update; the optimizer's state may lie in it.
  std::unique_ptr<SlicedUpdate> sliced_update_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Sampler> train_sampler_;
  std::unique_ptr<Sampler> test_sampler_;
  std::unique_ptr<Evaluator> evaluator_;
  std::unique_ptr<GradientSum> gradients_;
  bool defers_product_ = false;
  // The newest shard's.
  DeferredProduct deferred_;
  // Null where every step goes through the host.
  std::unique_ptr<RecordedSteps> recorded_;
  int64_t recorded_steps_ = 0;
  // The step that halted a run and is to go through the host; -1: none.
  int64_t halted_step_ = -1;
  // All shapes of a step were computed by this process.
  bool warm_ = false;
  // Of the steps of the newest run, 0 before it.
  double recorded_step_seconds_ = 0;
  // The same of all ranks, as they agreed on it in the newest step; 0: of none yet.
  double all_recorded_step_seconds_ = 0;
  // Null where shards go through the model one by one.
  std::unique_ptr<WholeBatch> whole_batch_;
  std::unique_ptr<Buffer> stats_buffer_;
  // kF64, as wide as the objective, and one more for CheckFinite.
  Tensor stats_;
  Tensor flag_;
  // The newest step's, see Objective.
  std::vector<double> step_sums_;
  // The parameters for a digest, where the host may not look at the device's.
  std::vector<std::byte> host_parameters_;
  Reporter reporter_;
  TrainerState state_;
  std::unique_ptr<StateKeeper> keeper_;
  bool timed_ = true;
  // What the ranks agreed on in the newest step.
  bool stop_ = false;
  bool stop_with_checkpoint_ = false;
  // The newest epoch was the last one.
  bool stopped_early_ = false;
  double epoch_began_ = 0;
  // Of the newest evaluation; greater is better.
  std::optional<double> score_;
  // Not yet reported.
  google::protobuf::RepeatedPtrField<lockstep::v1::StepDigest> digests_;
  int64_t non_finite_steps_ = 0;
  int64_t first_non_finite_ = 0;
};

}  // namespace lockstep
