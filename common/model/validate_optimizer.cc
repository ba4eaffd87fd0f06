// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>

#include "common/model/checks.h"
#include "common/model/names.h"
#include "common/model/ranges.h"
#include "common/pattern.h"

namespace lockstep {

namespace {

// What Adam and its kin have under the same names.
template <typename Spec>
void CheckAdam(const Spec& spec, const std::string& field, Violations& violations) {
  if (spec.has_beta_1()) CheckBelow(violations, field + ".beta_1", spec.beta_1(), 0, 1);
  if (spec.has_beta_2()) CheckBelow(violations, field + ".beta_2", spec.beta_2(), 0, 1);
  if (spec.has_epsilon()) CheckPositive(violations, field + ".epsilon", spec.epsilon());
}

void CheckKind(const v1::SgdOptimizer& spec, const std::string& field, Violations& violations) {
  CheckBelow(violations, field + ".momentum", spec.momentum(), 0, 1);
  if (spec.nesterov() && spec.momentum() == 0) violations.Add(field + ".nesterov", "needs a momentum greater than 0");
}
void CheckKind(const v1::AdamOptimizer& spec, const std::string& field, Violations& violations) {
  CheckAdam(spec, field, violations);
}
void CheckKind(const v1::AdamwOptimizer& spec, const std::string& field, Violations& violations) {
  CheckAdam(spec, field, violations);
}
void CheckKind(const v1::NadamOptimizer& spec, const std::string& field, Violations& violations) {
  CheckAdam(spec, field, violations);
}
void CheckKind(const v1::LambOptimizer& spec, const std::string& field, Violations& violations) {
  CheckAdam(spec, field, violations);
}
void CheckKind(const v1::AdagradOptimizer& spec, const std::string& field, Violations& violations) {
  if (spec.has_initial_accumulator_value()) {
    CheckNotNegative(violations, field + ".initial_accumulator_value", spec.initial_accumulator_value());
  }
  if (spec.has_epsilon()) CheckPositive(violations, field + ".epsilon", spec.epsilon());
}
void CheckKind(const v1::RmspropOptimizer& spec, const std::string& field, Violations& violations) {
  if (spec.has_rho()) CheckBelow(violations, field + ".rho", spec.rho(), 0, 1);
  CheckBelow(violations, field + ".momentum", spec.momentum(), 0, 1);
  if (spec.has_epsilon()) CheckPositive(violations, field + ".epsilon", spec.epsilon());
}
void CheckKind(const v1::LionOptimizer& spec, const std::string& field, Violations& violations) {
  if (spec.has_beta_1()) CheckBelow(violations, field + ".beta_1", spec.beta_1(), 0, 1);
  if (spec.has_beta_2()) CheckBelow(violations, field + ".beta_2", spec.beta_2(), 0, 1);
}
void CheckKind(const v1::LarsOptimizer& spec, const std::string& field, Violations& violations) {
  if (spec.has_momentum()) CheckBelow(violations, field + ".momentum", spec.momentum(), 0, 1);
  if (spec.has_trust_coefficient()) {
    CheckPositive(violations, field + ".trust_coefficient", spec.trust_coefficient());
  }
  if (spec.has_epsilon()) CheckNotNegative(violations, field + ".epsilon", spec.epsilon());
}

template <typename Spec>
void CheckNamed(const Spec& spec, const char* kind, Violations& violations) {
  const std::string field = absl::StrCat("optimizer.", kind);
  if (spec.has_learning_rate()) CheckPositive(violations, field + ".learning_rate", spec.learning_rate());
  CheckKind(spec, field, violations);
}

void CheckAnyKind(const v1::OptimizerSpec& spec, Violations& violations) {
  switch (spec.kind_case()) {
    case v1::OptimizerSpec::kSgd:
      return CheckNamed(spec.sgd(), "sgd", violations);
    case v1::OptimizerSpec::kAdam:
      return CheckNamed(spec.adam(), "adam", violations);
    case v1::OptimizerSpec::kAdagrad:
      return CheckNamed(spec.adagrad(), "adagrad", violations);
    case v1::OptimizerSpec::kRmsprop:
      return CheckNamed(spec.rmsprop(), "rmsprop", violations);
    case v1::OptimizerSpec::kAdamw:
      return CheckNamed(spec.adamw(), "adamw", violations);
    case v1::OptimizerSpec::kNadam:
      return CheckNamed(spec.nadam(), "nadam", violations);
    case v1::OptimizerSpec::kLion:
      return CheckNamed(spec.lion(), "lion", violations);
    case v1::OptimizerSpec::kLamb:
      return CheckNamed(spec.lamb(), "lamb", violations);
    case v1::OptimizerSpec::kLars:
      return CheckNamed(spec.lars(), "lars", violations);
    case v1::OptimizerSpec::KIND_NOT_SET:
      violations.Add("optimizer", absl::StrCat("is missing; give one of ", KindsOf(*v1::OptimizerSpec::descriptor())));
  }
}

bool MatchesAParameter(const ModelPlan& model, const std::string& pattern) {
  for (const LayerPlan& layer : model.layers) {
    for (const ParameterPlan& p : layer.parameters) {
      if (MatchesPattern(p.name, pattern)) return true;
    }
  }
  return false;
}

void CheckExclusions(const v1::OptimizerSpec& spec, const ModelPlan* model, Violations& violations) {
  constexpr int kMost = 1000;
  constexpr size_t kLongest = 200;
  if (spec.weight_decay_exclude_size() > kMost) {
    violations.Add("optimizer.weight_decay_exclude",
                   absl::StrCat("has ", spec.weight_decay_exclude_size(), " patterns; the limit is ", kMost));
    return;
  }
  for (int i = 0; i < spec.weight_decay_exclude_size(); ++i) {
    const std::string& pattern = spec.weight_decay_exclude(i);
    const std::string field = absl::StrCat("optimizer.weight_decay_exclude[", i, "]");
    if (pattern.empty() || pattern.size() > kLongest) {
      violations.Add(field, absl::StrCat("must have 1 to ", kLongest, " characters"));
    } else if (model != nullptr && !MatchesAParameter(*model, pattern)) {
      violations.Add(field, absl::StrCat("\"", pattern, "\" matches no parameter; names are like \"dense/bias\" (",
                                         "`lockstep summary` lists them)"));
    }
  }
}

}  // namespace

void CheckOptimizer(const v1::JobSpec& job, const ModelPlan* model, Violations& violations) {
  const v1::OptimizerSpec& spec = job.optimizer();
  CheckAnyKind(spec, violations);
  if (spec.has_weight_decay()) CheckNotNegative(violations, "optimizer.weight_decay", spec.weight_decay());
  CheckExclusions(spec, model, violations);
  if (spec.has_clip_value()) CheckPositive(violations, "optimizer.clip_value", spec.clip_value());
  if (spec.has_clip_norm()) CheckPositive(violations, "optimizer.clip_norm", spec.clip_norm());
  if (spec.has_global_clip_norm()) CheckPositive(violations, "optimizer.global_clip_norm", spec.global_clip_norm());
  if (spec.has_clip_value() + spec.has_clip_norm() + spec.has_global_clip_norm() > 1) {
    violations.Add("optimizer", "clips twice; give one of clip_value, clip_norm and global_clip_norm");
  }
  CheckAtLeast(violations, "optimizer.gradient_accumulation_steps", spec.gradient_accumulation_steps(), 0);
  if (spec.has_ema_momentum()) CheckBelow(violations, "optimizer.ema_momentum", spec.ema_momentum(), 0, 1);
  if (spec.has_ema_momentum() && !spec.use_ema()) {
    violations.Add("optimizer.ema_momentum", "has no effect without use_ema: true");
  }
}

}  // namespace lockstep
