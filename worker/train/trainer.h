// SPDX-License-Identifier: Apache-2.0
// Trainer: the loop. Every rank runs the same one, in lockstep.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/model/job_plan.h"
#include "worker/comm/communicator.h"
#include "worker/comm/tree_reduce.h"
#include "worker/data/dataset.h"
#include "worker/nn/model.h"
#include "worker/optim/optimizer.h"
#include "worker/train/coordinator_link.h"
#include "worker/train/evaluator.h"
#include "worker/train/reporter.h"
#include "worker/train/sampler.h"
#include "worker/train/step_plan.h"

namespace lockstep {

struct TrainerConfig {
  lockstep::v1::JobSpec spec;
  JobPlan plan;
  int64_t generation = 0;
  // Where rank 0 writes; checked by the coordinator.
  std::string output_dir;
  // A checkpoint folder, or empty.
  std::string resume_checkpoint;
  int64_t first_step = 0;
};

class Trainer {
 public:
  struct Result {
    // False: stopped at a step boundary because the coordinator asked.
    bool finished = false;
    int64_t step = 0;
  };

  // All pointers outlive the trainer. Restores the checkpoint where there is one.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(TrainerConfig config, Device* device,
                                                         Communicator* communicator, const Dataset* dataset,
                                                         CoordinatorLink* link, const Clock* clock);

  // Trains to the last step, or to the step boundary where the ranks agreed to stop.
  absl::StatusOr<Result> Run();

  // For tests.
  Model& model() { return *model_; }

 private:
  Trainer(TrainerConfig config, Device* device, Communicator* communicator, CoordinatorLink* link, const Clock* clock);

  absl::Status Build(const Dataset& dataset);
  absl::Status Step(int64_t step);
  void ComputeShard(int64_t step, const StepPlace& place, int shard, StepSeconds& seconds);
  absl::Status EndEpoch(int64_t step);
  void Commit(int64_t step);
  void ReportDigest(int64_t step);
  absl::Status Checkpoint(int64_t step);
  absl::Status SaveFinalModel(int64_t step);
  double Seconds() const;

  TrainerConfig config_;
  Device* device_;
  Communicator* communicator_;
  CoordinatorLink* link_;
  const Clock* clock_;
  StepPlan step_plan_;
  ShardRange owned_;

  std::unique_ptr<Model> model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Sampler> train_sampler_;
  std::unique_ptr<Sampler> test_sampler_;
  std::unique_ptr<Evaluator> evaluator_;
  std::unique_ptr<TreeReducer> reducer_;
  std::unique_ptr<Buffer> stats_buffer_;
  // kF64, as wide as the loss wants.
  Tensor stats_;
  std::optional<Permutation> order_;
  int64_t order_epoch_ = -1;
  Reporter reporter_;
  // What the ranks agreed on in the newest step.
  bool stop_ = false;
  bool stop_with_checkpoint_ = false;
  double epoch_began_ = 0;
};

}  // namespace lockstep
