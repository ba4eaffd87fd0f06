// SPDX-License-Identifier: Apache-2.0
// EpochJudge: what an epoch's values decide: the learning rate on a plateau, whether training ends early,
// and which epoch was the best. A function of the values so far: all ranks decide the same, and a job that
// was resumed decides as if it had not been.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/model/monitor.h"
#include "lockstep/v1/job.pb.h"
#include "worker/train/epoch_scores.h"

namespace lockstep {

struct Verdict {
  // What checkpoints are compared by: greater is better.
  double score = 0;
  // By what early stopping looks at.
  bool best = false;
  bool stop = false;
};

class EpochJudge {
 public:
  // `held_out`: there is held-out data.
  EpochJudge(const lockstep::v1::JobSpec& spec, bool held_out);

  // Where `state` begins: a part of TrainerState.
  static std::vector<double> InitialState();
  // An epoch is over. Changes `state`. Allocates nothing.
  Verdict Observe(const EpochScores& scores, std::span<double> state) const;
  // For LearningRate.
  static int64_t Reductions(std::span<const double> state);
  // An epoch was the best: there is something to go back to.
  static bool HasBest(std::span<const double> state);
  // The trained model is the best epoch's.
  bool restores_best() const { return stopping_.restore_best(); }

 private:
  const lockstep::v1::ReduceOnPlateauSchedule plateau_;
  const lockstep::v1::EarlyStoppingSpec stopping_;
  const bool reduces_;
  const bool stops_;
  const MonitorPlan plateau_monitor_;
  const MonitorPlan stopping_monitor_;
  const MonitorPlan keep_best_;
};

}  // namespace lockstep
