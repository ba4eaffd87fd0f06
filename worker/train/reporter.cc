// SPDX-License-Identifier: Apache-2.0
#include "worker/train/reporter.h"

#include <algorithm>
#include <utility>

#include "worker/train/start_times.h"

namespace lockstep {

namespace {

// Often enough for a live picture, seldom enough to cost nothing.
constexpr std::chrono::milliseconds kRange{200};
// Eight looks at the clock take 0.2 us.
constexpr double kShortStep = 100e-6;
constexpr int64_t kShortStepsPerTimed = 16;

void Add(std::span<const double> from, std::vector<double>& to) {
  for (size_t i = 0; i < from.size(); ++i) to[i] += from[i];
}

}  // namespace

Reporter::Reporter(const Clock* clock, int64_t total_steps, int64_t generation)
    : clock_(clock), total_steps_(total_steps), generation_(generation) {}

void Reporter::SetObjective(const Objective* objective) {
  objective_ = objective;
  sums_.assign(static_cast<size_t>(objective->width()), 0.0);
}

void Reporter::Begin(int64_t step) {
  began_ = clock_->Now();
  first_step_ = step;
  steps_ = 0;
  rows_ = 0;
  std::ranges::fill(sums_, 0.0);
  fresh_times_ = true;
}

bool Reporter::WantsTimes() const { return until_timed_ == 0; }

void Reporter::AddStep(std::span<const double> sums, int64_t rows, const StepSeconds* seconds, TrainerState& state) {
  if (steps_++ == 0 && start_.has_value()) first_step_done_ = clock_->WallNow();
  rows_ += rows;
  Add(sums, sums_);
  Add(sums, state.sums);
  state.rows += rows;
  ++state.steps;
  if (seconds == nullptr) {
    if (until_timed_ > 0) --until_timed_;
    return;
  }
  if (std::exchange(fresh_times_, false)) {
    seconds_ = {};
    timed_steps_ = 0;
  }
  ++timed_steps_;
  until_timed_ = seconds->total() < kShortStep ? kShortStepsPerTimed - 1 : 0;
  newest_[newest_count_++ % newest_.size()] = static_cast<float>(seconds->total());
  seconds_.lease += seconds->lease;
  seconds_.data += seconds->data;
  seconds_.forward += seconds->forward;
  seconds_.backward += seconds->backward;
  seconds_.allreduce += seconds->allreduce;
  seconds_.optimizer += seconds->optimizer;
}

void Reporter::AddRun(double seconds, int64_t steps) {
  newest_[newest_count_++ % newest_.size()] = static_cast<float>(seconds / static_cast<double>(steps));
}

bool Reporter::Due(double at_least_seconds) const {
  const auto length = clock_->Now() - began_;
  return length >= kRange && std::chrono::duration<double>(length).count() >= at_least_seconds;
}

double Reporter::SlowStepSeconds() const {
  const size_t count = std::min(newest_count_, newest_.size());
  if (count == 0) return 0;
  std::array<float, 256> sorted = newest_;
  const auto slow = sorted.begin() + static_cast<std::ptrdiff_t>(count * 99 / 100);
  std::nth_element(sorted.begin(), slow, sorted.begin() + static_cast<std::ptrdiff_t>(count));
  return *slow;
}

v1::StepsCommitted Reporter::Take(double learning_rate) {
  v1::StepsCommitted range;
  range.set_generation(generation_);
  range.set_first_step(first_step_);
  range.set_end_step(first_step_ + steps_);
  range.set_total_steps(total_steps_);
  if (steps_ == 0) return range;
  const double seconds = std::chrono::duration<double>(clock_->Now() - began_).count();
  // Without a row where no step of the range was applied.
  const int64_t rows = std::max<int64_t>(1, rows_);
  range.set_loss(sums_[0] / static_cast<double>(rows));
  if (const auto accuracy = objective_->Value("accuracy", sums_, rows)) range.set_accuracy(*accuracy);
  range.set_learning_rate(learning_rate);
  range.set_samples(rows_);
  range.set_samples_per_second(seconds > 0 ? static_cast<double>(rows_) / seconds : 0);
  const double n = static_cast<double>(std::max<int64_t>(1, timed_steps_));
  v1::StepPhases& phases = *range.mutable_phases();
  phases.set_lease_seconds(seconds_.lease / n);
  phases.set_data_seconds(seconds_.data / n);
  phases.set_forward_seconds(seconds_.forward / n);
  phases.set_backward_seconds(seconds_.backward / n);
  phases.set_allreduce_seconds(seconds_.allreduce / n);
  phases.set_optimizer_seconds(seconds_.optimizer / n);
  if (start_.has_value()) {
    *range.mutable_start() = *start_;
    SetTime(first_step_done_, range.mutable_start()->mutable_first_step_done());
    start_.reset();
  }
  Begin(first_step_ + steps_);
  return range;
}

}  // namespace lockstep
