// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/model/text.h"
#include "common/model/validate.h"

namespace lockstep {

namespace {

constexpr int32_t kMaxWorkers = 1024;
constexpr int32_t kMaxShards = 1024;
constexpr int32_t kMaxThreads = 1024;
// Steps are multiplied with batch sizes and shards later on; this leaves room.
constexpr int64_t kMaxSteps = int64_t{1} << 48;

// The comparisons are written so that a NaN is refused too.
void CheckPositive(const std::string& field, double value, Violations& violations) {
  if (value > 0 && std::isfinite(value)) return;
  violations.Add(field, absl::StrCat("must be a finite number greater than 0, not ", value));
}

void CheckShare(const std::string& field, double value, Violations& violations) {
  if (value >= 0 && value < 1) return;
  violations.Add(field, absl::StrCat("must lie in [0, 1), not ", value));
}

void CheckSgd(const v1::SgdOptimizer& sgd, Violations& violations) {
  const std::string field = "optimizer.sgd.";
  if (sgd.has_learning_rate()) CheckPositive(field + "learning_rate", sgd.learning_rate(), violations);
  CheckShare(field + "momentum", sgd.momentum(), violations);
  if (sgd.nesterov() && sgd.momentum() == 0) {
    violations.Add(field + "nesterov", "needs a momentum greater than 0; set momentum, 0.9 for example");
  }
}

void CheckAdam(const v1::AdamOptimizer& adam, Violations& violations) {
  const std::string field = "optimizer.adam.";
  if (adam.has_learning_rate()) CheckPositive(field + "learning_rate", adam.learning_rate(), violations);
  if (adam.has_beta_1()) CheckShare(field + "beta_1", adam.beta_1(), violations);
  if (adam.has_beta_2()) CheckShare(field + "beta_2", adam.beta_2(), violations);
  if (adam.has_epsilon()) CheckPositive(field + "epsilon", adam.epsilon(), violations);
}

void CheckSchedule(const v1::ScheduleSpec& schedule, Violations& violations) {
  if (schedule.kind_case() == v1::ScheduleSpec::KIND_NOT_SET) {
    violations.Add("schedule", "names no schedule; choose constant or exponential_decay, or leave it out");
  }
  if (!schedule.has_exponential_decay()) return;
  const v1::ExponentialDecaySchedule& decay = schedule.exponential_decay();
  if (decay.decay_steps() < 1) {
    violations.Add("schedule.exponential_decay.decay_steps",
                   absl::StrCat("must be at least 1, not ", decay.decay_steps()));
  }
  if (!(decay.decay_rate() > 0 && decay.decay_rate() <= 1)) {
    violations.Add("schedule.exponential_decay.decay_rate",
                   absl::StrCat("must lie in (0, 1], not ", decay.decay_rate()));
  }
}

void CheckResources(const v1::ResourcesSpec& resources, Violations& violations) {
  if (resources.workers() < 1 || resources.workers() > kMaxWorkers) {
    violations.Add("resources.workers",
                   absl::StrCat("must be at least 1 and at most ", kMaxWorkers, ", not ", resources.workers()));
  }
  if (!v1::Device_IsValid(resources.device())) {
    violations.Add("resources.device", absl::StrCat("must be cpu or cuda, not ", resources.device()));
  }
  if (resources.threads_per_worker() < 0 || resources.threads_per_worker() > kMaxThreads) {
    violations.Add("resources.threads_per_worker",
                   absl::StrCat("must be 0 (one thread) to ", kMaxThreads, ", not ", resources.threads_per_worker()));
  }
}

// V, or 1 where it cannot be told.
int32_t LogicalShards(const v1::JobSpec& spec, Violations& violations) {
  const int32_t workers = spec.resources().workers();
  const int32_t given = spec.training().logical_shards();
  const bool workers_known = workers >= 1 && workers <= kMaxWorkers;
  const int64_t batch = spec.training().batch_size();
  if (given == 0) {
    if (!workers_known) return 1;
    const int32_t shards = static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(workers)));
    if (batch >= 1 && shards > batch) {
      violations.Add("training.batch_size",
                     absl::StrCat("is ", batch, ", too small to be cut into ", shards, " shards for ", workers,
                                  " workers; use a batch of at least ", shards, " or fewer workers"));
    }
    return shards;
  }
  const std::string field = "training.logical_shards";
  if (given < 0 || given > kMaxShards || !std::has_single_bit(static_cast<uint32_t>(given))) {
    violations.Add(field, absl::StrCat("must be a power of two from 1 to ", kMaxShards, ", or 0, not ", given));
    return 1;
  }
  if (workers_known && given < workers) {
    violations.Add(field, absl::StrCat("is ", given, ", less than the ", workers,
                                       " workers, so some would have nothing to do; use at least ",
                                       std::bit_ceil(static_cast<uint32_t>(workers)), " or fewer workers"));
  }
  if (batch >= 1 && given > batch) {
    violations.Add(field, absl::StrCat("is ", given, ", more than the ", batch, " samples of a batch"));
  }
  return given;
}

}  // namespace

void CheckOptimizer(const v1::JobSpec& spec, Violations& violations) {
  switch (spec.optimizer().kind_case()) {
    case v1::OptimizerSpec::kSgd:
      CheckSgd(spec.optimizer().sgd(), violations);
      break;
    case v1::OptimizerSpec::kAdam:
      CheckAdam(spec.optimizer().adam(), violations);
      break;
    case v1::OptimizerSpec::KIND_NOT_SET:
      violations.Add("optimizer", "is missing; choose sgd or adam, for example \"adam: {learning_rate: 0.001}\"");
  }
  if (spec.has_schedule()) CheckSchedule(spec.schedule(), violations);
}

void CheckTraining(const v1::JobSpec& spec, const DatasetInfo* dataset, JobPlan& plan, Violations& violations) {
  CheckResources(spec.resources(), violations);
  const v1::TrainingSpec& training = spec.training();
  if (!spec.has_training()) {
    violations.Add("training", "is missing; give batch_size and epochs");
    return;
  }
  plan.logical_shards = LogicalShards(spec, violations);
  if (!v1::Reduction_IsValid(training.reduction())) {
    violations.Add("training.reduction", absl::StrCat("must be canonical or fastest, not ", training.reduction()));
  }
  if (training.checkpoint_interval_steps() < 0) {
    violations.Add("training.checkpoint_interval_steps",
                   absl::StrCat("must be 0 (each epoch) or more, not ", training.checkpoint_interval_steps()));
  }
  const int64_t batch = training.batch_size();
  if (batch < 1) violations.Add("training.batch_size", absl::StrCat("must be at least 1, not ", batch));
  if (training.epochs() < 1) {
    violations.Add("training.epochs", absl::StrCat("must be at least 1, not ", training.epochs()));
  }
  if (dataset == nullptr || batch < 1) return;
  const int64_t samples = dataset->train_samples;
  if (batch > samples) {
    violations.Add("training.batch_size",
                   absl::StrCat("is ", batch, ", more than the ", samples, " training samples; use at most ", samples));
    return;
  }
  if (training.epochs() < 1) return;
  plan.steps_per_epoch = samples / batch + (samples % batch != 0);
  if (__builtin_mul_overflow(plan.steps_per_epoch, training.epochs(), &plan.total_steps) ||
      plan.total_steps > kMaxSteps) {
    plan.total_steps = 0;
    violations.Add("training.epochs", absl::StrCat(training.epochs(), " epochs of ", plan.steps_per_epoch,
                                                   " steps are more than the limit of ", kMaxSteps, " steps"));
  }
}

}  // namespace lockstep
