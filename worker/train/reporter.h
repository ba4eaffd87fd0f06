// SPDX-License-Identifier: Apache-2.0
// Reporter: sums up steps into the ranges that are committed, and epochs into their metrics.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "common/clock.h"
#include "lockstep/v1/events.pb.h"
#include "worker/nn/loss.h"

namespace lockstep {

// Seconds of one step, by phase.
struct StepSeconds {
  // Waiting for a lease.
  double lease = 0;
  double data = 0;
  double forward = 0;
  double backward = 0;
  double allreduce = 0;
  double optimizer = 0;

  double total() const { return lease + data + forward + backward + allreduce + optimizer; }
};

class Reporter {
 public:
  // `clock` outlives the reporter.
  Reporter(const Clock* clock, bool classification, int64_t total_steps, int64_t generation);

  // A range begins with `step`; called before the first step and after every pause.
  void Begin(int64_t step);
  // One step is done; `rows` is 0 for one that was not applied. Allocates nothing.
  void AddStep(const LossSums& sums, int64_t rows, const StepSeconds& seconds);
  // True where a range is long enough to be committed: a fifth of a second, or `at_least_seconds`.
  bool Due(double at_least_seconds = 0) const;
  // 99th percentile of the newest steps' times; 0 before the first one.
  double SlowStepSeconds() const;
  // The range [first, end) so far; the next one begins at its end. Empty ranges have first == end.
  lockstep::v1::StepsCommitted Take(double learning_rate);

  // Sums over the epoch so far, in step order: part of a checkpoint, so that a resumed epoch reports
  // the same bits.
  struct EpochSums {
    LossSums sums;
    int64_t rows = 0;
    // Also those that were not applied.
    int64_t steps = 0;
  };
  EpochSums epoch_sums;

 private:
  const Clock* clock_;
  bool classification_;
  int64_t total_steps_;
  int64_t generation_;
  Clock::Monotonic began_;
  int64_t first_step_ = 0;
  int64_t steps_ = 0;
  int64_t rows_ = 0;
  LossSums sums_;
  StepSeconds seconds_;
  // A ring of the newest steps' times.
  std::array<float, 256> newest_{};
  size_t newest_count_ = 0;
};

// Means of the sums over `rows` samples of a held-out set; R² for regression.
struct Scores {
  double loss = 0;
  bool classification = true;
  double accuracy = 0;
  double r_squared = 0;
};
Scores Score(const LossSums& sums, int64_t rows, int64_t target_width, bool classification);

}  // namespace lockstep
