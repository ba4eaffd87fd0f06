// SPDX-License-Identifier: Apache-2.0
#include "worker/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lockstep {

namespace {

constexpr double kGamma = 0.1;

// From 1 to 0 along half a cosine as `share` goes from 0 to 1.
double HalfCosine(double share) { return 0.5 * (1.0 + std::cos(std::numbers::pi * share)); }

double Exponential(const v1::ExponentialDecaySchedule& spec, double base, double step) {
  const double exponent = step / static_cast<double>(spec.decay_steps());
  return base * std::pow(spec.decay_rate(), spec.staircase() ? std::floor(exponent) : exponent);
}

double MultiStep(const v1::MultiStepDecaySchedule& spec, double base, int64_t step) {
  const auto reached = std::ranges::upper_bound(spec.milestones(), step) - spec.milestones().begin();
  return base * std::pow(spec.has_gamma() ? spec.gamma() : kGamma, static_cast<double>(reached));
}

double Polynomial(const v1::PolynomialDecaySchedule& spec, double base, int64_t step) {
  const double end = spec.has_end_learning_rate() ? spec.end_learning_rate() : 0.0001;
  const double share =
      static_cast<double>(std::min(step, spec.decay_steps())) / static_cast<double>(spec.decay_steps());
  return (base - end) * std::pow(1.0 - share, spec.has_power() ? spec.power() : 1.0) + end;
}

double Cosine(const v1::CosineDecaySchedule& spec, double base, int64_t step) {
  const double share =
      static_cast<double>(std::min(step, spec.decay_steps())) / static_cast<double>(spec.decay_steps());
  return base * ((1.0 - spec.alpha()) * HalfCosine(share) + spec.alpha());
}

double CosineRestarts(const v1::CosineDecayRestartsSchedule& spec, double base, double step) {
  const double growth = spec.has_t_mul() ? spec.t_mul() : 2.0;
  const double at = step / static_cast<double>(spec.first_decay_steps());
  // Periods before period i, in first periods: 1 + growth + ... + growth^(i - 1).
  const auto start = [growth](double i) {
    return growth == 1.0 ? i : std::expm1(i * std::log(growth)) / (growth - 1.0);
  };
  double period = growth == 1.0 ? std::floor(at) : std::floor(std::log1p(at * (growth - 1.0)) / std::log(growth));
  // The logarithm may be off by a rounding right at a restart, which is put right to the step.
  const double rounding = 1e-12 * std::max(1.0, at);
  if (start(period + 1.0) <= at + rounding) period += 1.0;
  const double share = std::clamp((at - start(period)) / std::pow(growth, period), 0.0, 1.0);
  const double height = std::pow(spec.has_m_mul() ? spec.m_mul() : 1.0, period);
  return base * ((1.0 - spec.alpha()) * height * HalfCosine(share) + spec.alpha());
}

// The peak is at step pct_start * total_steps - 1 and the end at step total_steps - 1, as PyTorch has it.
double OneCycle(const v1::OneCycleSchedule& spec, double base, double step) {
  const double first = base / (spec.has_div_factor() ? spec.div_factor() : 25.0);
  const double final = first / (spec.has_final_div_factor() ? spec.final_div_factor() : 1e4);
  const double total = static_cast<double>(spec.total_steps());
  const double peak = (spec.has_pct_start() ? spec.pct_start() : 0.3) * total - 1.0, end = total - 1.0;
  if (peak > 0 && step <= peak) return base + (first - base) * HalfCosine(step / peak);
  return final + (base - final) * HalfCosine(std::min(1.0, (step - peak) / (end - peak)));
}

double Reduced(const v1::ReduceOnPlateauSchedule& spec, double base, int64_t reductions) {
  const double factor = spec.has_factor() ? spec.factor() : kGamma;
  const double rate = base * std::pow(factor, static_cast<double>(reductions));
  // A base below the least rate is not raised to it.
  return std::max(rate, std::min(base, spec.min_learning_rate()));
}

double Scheduled(const v1::ScheduleSpec& spec, double base, int64_t step, int64_t reductions) {
  switch (spec.kind_case()) {
    case v1::ScheduleSpec::kConstant:
    case v1::ScheduleSpec::KIND_NOT_SET:
      return base;
    case v1::ScheduleSpec::kExponentialDecay:
      return Exponential(spec.exponential_decay(), base, static_cast<double>(step));
    case v1::ScheduleSpec::kStepDecay: {
      const v1::StepDecaySchedule& decay = spec.step_decay();
      const int64_t times = step / decay.step_size();
      return base * std::pow(decay.has_gamma() ? decay.gamma() : kGamma, static_cast<double>(times));
    }
    case v1::ScheduleSpec::kMultiStepDecay:
      return MultiStep(spec.multi_step_decay(), base, step);
    case v1::ScheduleSpec::kPolynomialDecay:
      return Polynomial(spec.polynomial_decay(), base, step);
    case v1::ScheduleSpec::kCosineDecay:
      return Cosine(spec.cosine_decay(), base, step);
    case v1::ScheduleSpec::kCosineDecayRestarts:
      return CosineRestarts(spec.cosine_decay_restarts(), base, static_cast<double>(step));
    case v1::ScheduleSpec::kOneCycle:
      return OneCycle(spec.one_cycle(), base, static_cast<double>(step));
    case v1::ScheduleSpec::kReduceOnPlateau:
      return Reduced(spec.reduce_on_plateau(), base, reductions);
  }
  return base;
}

}  // namespace

double LearningRate(const v1::ScheduleSpec& spec, double base, int64_t step, int64_t reductions) {
  const int64_t warmup = spec.warmup_steps();
  if (step >= warmup) return Scheduled(spec, base, step - warmup, reductions);
  const double share = static_cast<double>(step + 1) / static_cast<double>(warmup + 1);
  return share * Scheduled(spec, base, 0, reductions);
}

}  // namespace lockstep
