// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "common/model/checks.h"
#include "common/model/names.h"
#include "common/model/ranges.h"

namespace lockstep {

namespace {

void CheckKind(const v1::ConstantSchedule&, const std::string&, Violations&) {}

void CheckKind(const v1::ExponentialDecaySchedule& spec, const std::string& field, Violations& violations) {
  CheckAtLeast(violations, field + ".decay_steps", spec.decay_steps(), 1);
  CheckShare(violations, field + ".decay_rate", spec.decay_rate());
}

void CheckKind(const v1::StepDecaySchedule& spec, const std::string& field, Violations& violations) {
  CheckAtLeast(violations, field + ".step_size", spec.step_size(), 1);
  if (spec.has_gamma()) CheckShare(violations, field + ".gamma", spec.gamma());
}

void CheckKind(const v1::MultiStepDecaySchedule& spec, const std::string& field, Violations& violations) {
  if (spec.milestones().empty()) violations.Add(field + ".milestones", "is empty; give at least one step");
  for (int i = 0; i < spec.milestones_size(); ++i) {
    const int64_t least = i == 0 ? 0 : spec.milestones(i - 1) + 1;
    if (spec.milestones(i) >= least) continue;
    violations.Add(absl::StrCat(field, ".milestones[", i, "]"),
                   absl::StrCat("is ", spec.milestones(i), "; milestones must rise, and start at 0 or later"));
  }
  if (spec.has_gamma()) CheckShare(violations, field + ".gamma", spec.gamma());
}

void CheckKind(const v1::PolynomialDecaySchedule& spec, const std::string& field, Violations& violations) {
  CheckAtLeast(violations, field + ".decay_steps", spec.decay_steps(), 1);
  if (spec.has_end_learning_rate()) {
    CheckNotNegative(violations, field + ".end_learning_rate", spec.end_learning_rate());
  }
  if (spec.has_power()) CheckPositive(violations, field + ".power", spec.power());
}

void CheckKind(const v1::CosineDecaySchedule& spec, const std::string& field, Violations& violations) {
  CheckAtLeast(violations, field + ".decay_steps", spec.decay_steps(), 1);
  CheckBetween(violations, field + ".alpha", spec.alpha(), 0, 1);
}

void CheckKind(const v1::CosineDecayRestartsSchedule& spec, const std::string& field, Violations& violations) {
  CheckAtLeast(violations, field + ".first_decay_steps", spec.first_decay_steps(), 1);
  if (spec.has_t_mul()) CheckBetween(violations, field + ".t_mul", spec.t_mul(), 1, 1e6);
  if (spec.has_m_mul()) CheckShare(violations, field + ".m_mul", spec.m_mul());
  CheckBetween(violations, field + ".alpha", spec.alpha(), 0, 1);
}

void CheckKind(const v1::OneCycleSchedule& spec, const std::string& field, Violations& violations) {
  CheckAtLeast(violations, field + ".total_steps", spec.total_steps(), 2);
  if (spec.has_pct_start() && !(spec.pct_start() > 0 && spec.pct_start() < 1)) {
    violations.Add(field + ".pct_start", absl::StrCat("is ", spec.pct_start(), "; must be between 0 and 1"));
  }
  if (spec.has_div_factor()) CheckBetween(violations, field + ".div_factor", spec.div_factor(), 1, 1e12);
  if (spec.has_final_div_factor()) {
    CheckBetween(violations, field + ".final_div_factor", spec.final_div_factor(), 1, 1e12);
  }
}

void CheckKind(const v1::ReduceOnPlateauSchedule& spec, const std::string& field, Violations& violations) {
  if (spec.has_factor() && !(spec.factor() > 0 && spec.factor() < 1)) {
    violations.Add(field + ".factor", absl::StrCat("is ", spec.factor(), "; must be between 0 and 1"));
  }
  if (spec.has_patience()) CheckAtLeast(violations, field + ".patience", spec.patience(), 0);
  CheckAtLeast(violations, field + ".cooldown", spec.cooldown(), 0);
  CheckNotNegative(violations, field + ".min_learning_rate", spec.min_learning_rate());
}

void CheckAnyKind(const v1::ScheduleSpec& spec, Violations& violations) {
  switch (spec.kind_case()) {
    case v1::ScheduleSpec::kConstant:
      return CheckKind(spec.constant(), "schedule.constant", violations);
    case v1::ScheduleSpec::kExponentialDecay:
      return CheckKind(spec.exponential_decay(), "schedule.exponential_decay", violations);
    case v1::ScheduleSpec::kStepDecay:
      return CheckKind(spec.step_decay(), "schedule.step_decay", violations);
    case v1::ScheduleSpec::kMultiStepDecay:
      return CheckKind(spec.multi_step_decay(), "schedule.multi_step_decay", violations);
    case v1::ScheduleSpec::kPolynomialDecay:
      return CheckKind(spec.polynomial_decay(), "schedule.polynomial_decay", violations);
    case v1::ScheduleSpec::kCosineDecay:
      return CheckKind(spec.cosine_decay(), "schedule.cosine_decay", violations);
    case v1::ScheduleSpec::kCosineDecayRestarts:
      return CheckKind(spec.cosine_decay_restarts(), "schedule.cosine_decay_restarts", violations);
    case v1::ScheduleSpec::kOneCycle:
      return CheckKind(spec.one_cycle(), "schedule.one_cycle", violations);
    case v1::ScheduleSpec::kReduceOnPlateau:
      return CheckKind(spec.reduce_on_plateau(), "schedule.reduce_on_plateau", violations);
    case v1::ScheduleSpec::KIND_NOT_SET:
      violations.Add("schedule", absl::StrCat("names no schedule; give one of ",
                                              KindsOf(*v1::ScheduleSpec::descriptor()), ", or leave it out"));
  }
}

}  // namespace

void CheckSchedule(const v1::JobSpec& job, Violations& violations) {
  if (!job.has_schedule()) return;
  CheckAnyKind(job.schedule(), violations);
  CheckAtLeast(violations, "schedule.warmup_steps", job.schedule().warmup_steps(), 0);
}

}  // namespace lockstep
