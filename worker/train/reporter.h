// SPDX-License-Identifier: Apache-2.0
// Reporter: sums up steps into the ranges that are committed, and into the epoch.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/clock.h"
#include "lockstep/v1/events.pb.h"
#include "worker/nn/objective.h"
#include "worker/train/trainer_state.h"

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
  Reporter(const Clock* clock, int64_t total_steps, int64_t generation);
  // What makes values of the sums; before the first step. `objective` outlives the reporter.
  void SetObjective(const Objective* objective);

  // Reported with the first range, together with the time of its first step.
  void SetStart(const lockstep::v1::StartTimes& start) { start_ = start; }

  // A range begins with `step`; called before the first step and after every pause.
  void Begin(int64_t step);
  // Whether the coming step is to be timed. Each one is, but where steps take less than a few looks at the clock are
  // worth, one in 16.
  bool WantsTimes() const;
  // One step is done. `sums`: the objective's; empty, with `rows` 0, for a step that was not applied. `seconds`: null
  // where it was not timed. Adds to the range and to the epoch in `state`. Allocates nothing.
  void AddStep(std::span<const double> sums, int64_t rows, const StepSeconds* seconds, TrainerState& state);
  // So many steps, which AddStep was told of without their times, took so long together.
  void AddRun(double seconds, int64_t steps);
  // True where a range is long enough to be committed: a fifth of a second, or `at_least_seconds`.
  bool Due(double at_least_seconds = 0) const;
  // 99th percentile of the newest steps' times; 0 before the first one.
  double SlowStepSeconds() const;
  // The range [first, end) so far; the next one begins at its end. Empty ranges have first == end.
  lockstep::v1::StepsCommitted Take(double learning_rate);

 private:
  const Clock* clock_;
  const Objective* objective_ = nullptr;
  int64_t total_steps_;
  int64_t generation_;
  Clock::Monotonic began_;
  int64_t first_step_ = 0;
  int64_t steps_ = 0;
  int64_t rows_ = 0;
  std::vector<double> sums_;
  // Of the steps that were timed; of an earlier range where this one has none.
  StepSeconds seconds_;
  int64_t timed_steps_ = 0;
  bool fresh_times_ = true;
  int64_t until_timed_ = 0;
  // Until it is reported.
  std::optional<lockstep::v1::StartTimes> start_;
  Clock::Wall first_step_done_;
  // A ring of the newest steps' times.
  std::array<float, 256> newest_{};
  size_t newest_count_ = 0;
};

}  // namespace lockstep
