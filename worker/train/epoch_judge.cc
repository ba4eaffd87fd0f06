// SPDX-License-Identifier: Apache-2.0
#include "worker/train/epoch_judge.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "worker/optim/plateau.h"

namespace lockstep {

namespace {

// Nothing but doubles, so that it is an array of them too.
struct State {
  PlateauState plateau;
  MonitorState stopping;
};
constexpr size_t kNumbers = sizeof(State) / sizeof(double);

using Numbers = std::array<double, kNumbers>;

State Read(std::span<const double> from) {
  Numbers numbers{};
  std::ranges::copy(from.first(std::min(from.size(), kNumbers)), numbers.begin());
  return std::bit_cast<State>(numbers);
}

void Write(const State& state, std::span<double> to) {
  const auto numbers = std::bit_cast<Numbers>(state);
  std::copy_n(numbers.begin(), std::min(to.size(), kNumbers), to.begin());
}

// A value that there is not is never better.
double ValueOf(const EpochScores& scores, const MonitorPlan& monitor) {
  return scores.Find(monitor.metric).value_or(std::numeric_limits<double>::quiet_NaN());
}

}  // namespace

EpochJudge::EpochJudge(const v1::JobSpec& spec, bool held_out)
    : plateau_(spec.schedule().reduce_on_plateau()),
      stopping_(spec.training().early_stopping()),
      reduces_(spec.schedule().has_reduce_on_plateau()),
      stops_(spec.training().has_early_stopping()),
      plateau_monitor_(PlanMonitor(plateau_.monitor(), held_out)),
      stopping_monitor_(PlanMonitor(stopping_.monitor(), held_out)),
      keep_best_(PlanKeepBest(spec.training(), held_out)) {}

std::vector<double> EpochJudge::InitialState() {
  std::vector<double> numbers(kNumbers);
  Write({}, numbers);
  return numbers;
}

Verdict EpochJudge::Observe(const EpochScores& scores, std::span<double> numbers) const {
  State state = Read(numbers);
  Verdict verdict;
  const double score = ValueOf(scores, keep_best_);
  verdict.score = keep_best_.higher_is_better ? score : -score;
  if (reduces_) {
    ObservePlateau(plateau_, ValueOf(scores, plateau_monitor_), plateau_monitor_.higher_is_better, state.plateau);
  }
  if (stops_) {
    verdict.best = lockstep::Observe(ValueOf(scores, stopping_monitor_), stopping_monitor_.higher_is_better,
                                     stopping_.monitor().min_delta(), state.stopping);
    const int64_t patience = std::max<int64_t>(1, stopping_.patience());
    verdict.stop = state.stopping.waited >= static_cast<double>(patience);
  }
  Write(state, numbers);
  return verdict;
}

int64_t EpochJudge::Reductions(std::span<const double> state) {
  // A state file may hold anything; a conversion of what is no count would be undefined.
  const double reductions = Read(state).plateau.reductions;
  return reductions >= 0 && reductions < 1e9 ? static_cast<int64_t>(reductions) : 0;
}

bool EpochJudge::HasBest(std::span<const double> state) { return Read(state).stopping.known != 0; }

}  // namespace lockstep
