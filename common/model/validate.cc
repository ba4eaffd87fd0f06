// SPDX-License-Identifier: Apache-2.0
// The checks of a whole specification, each with the path a person wrote and what to do.
#include <algorithm>
#include <bit>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/model/checks.h"
#include "common/model/job_plan.h"
#include "common/model/monitor.h"

namespace lockstep {

namespace {

constexpr int kMaxWorkers = 1024;
constexpr int kMaxShards = 1024;
constexpr int kMaxThreads = 1024;
constexpr int64_t kMaxEpochs = 1'000'000'000;
constexpr int64_t kMaxSteps = int64_t{1} << 53;
constexpr int64_t kMaxLossScale = int64_t{1} << 24;
constexpr size_t kMaxName = 63;

bool ValidJobName(const std::string& name) {
  const auto plain = [](char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c); };
  return !name.empty() && name.size() <= kMaxName && plain(name.front()) && plain(name.back()) &&
         std::ranges::all_of(name, [&](char c) { return plain(c) || c == '-'; });
}

class Validator {
 public:
  Validator(const v1::JobSpec& spec, const DatasetInfo* dataset, Violations& violations)
      : spec_(spec), dataset_(dataset), violations_(violations) {}

  JobPlan Run() {
    JobPlan plan;
    if (dataset_ != nullptr) plan.dataset = *dataset_;
    if (!ValidJobName(spec_.name())) {
      Add("name", "must be 1 to 63 lower-case letters, digits or -, and start and end with a letter or digit");
    }
    CheckDataset(spec_, dataset_, violations_);
    CheckModel(plan);
    CheckLoss(spec_, dataset_, model_ok_ ? &plan.model : nullptr, violations_);
    CheckMetrics(spec_, model_ok_ ? &plan.model : nullptr, violations_);
    CheckOptimizer(spec_, model_ok_ ? &plan.model : nullptr, violations_);
    CheckSchedule(spec_, violations_);
    CheckResources();
    CheckTraining(plan);
    CheckMonitors(spec_, dataset_, violations_);
    CheckInput(spec_, dataset_, plan.logical_shards, violations_);
    return plan;
  }

 private:
  void Add(const std::string& field, const std::string& description) { violations_.Add(field, description); }

  void CheckModel(JobPlan& plan) {
    const auto& given = spec_.model().input_shape();
    Shape input;
    bool known = dataset_ != nullptr && dataset_->sample.rank() > 0;
    if (known) input = dataset_->sample;
    if (!given.empty()) {
      if (given.size() > Shape::kMaxRank - 1 ||
          CheckedElements({given.data(), size_t(given.size())}, kMaxTensorElements) < 1) {
        Add("model.input_shape", "must have 1 to 7 axes, each at least 1");
        return;
      }
      const Shape shape(std::span<const int64_t>(given.data(), static_cast<size_t>(given.size())));
      if (known && !(shape == input)) {
        Add("model.input_shape", absl::StrCat("is ", shape.ToString(), ", but the samples of the data set are ",
                                              input.ToString(), "; leave it out or make them agree"));
      }
      if (!known) input = shape;
      known = true;
    }
    if (!known) {
      // What is wrong with the data was said; without it shapes cannot be checked.
      if (dataset_ == nullptr) Add("model.input_shape", "is needed where the data set is not at hand");
      return;
    }
    const size_t before = violations_.count();
    plan.model = PlanModel(spec_.model(), input, violations_);
    model_ok_ = violations_.count() == before;
  }

  void CheckResources() {
    const v1::ResourcesSpec& resources = spec_.resources();
    if (resources.workers() < 1 || resources.workers() > kMaxWorkers) {
      Add("resources.workers",
          absl::StrCat("is ", resources.workers(), "; must be at least 1 and at most ", kMaxWorkers));
    }
    if (resources.threads_per_worker() < 0 || resources.threads_per_worker() > kMaxThreads) {
      Add("resources.threads_per_worker",
          absl::StrCat("is ", resources.threads_per_worker(), "; must be 0 (one thread) to ", kMaxThreads));
    }
    if (!v1::Device_IsValid(resources.device())) {
      Add("resources.device", "must be DEVICE_AUTO, DEVICE_CPU or DEVICE_CUDA");
    }
  }

  void CheckTraining(JobPlan& plan) {
    const v1::TrainingSpec& training = spec_.training();
    const int64_t batch = training.batch_size();
    if (batch < 1) Add("training.batch_size", absl::StrCat("is ", batch, "; must be at least 1"));
    if (training.epochs() < 1 || training.epochs() > kMaxEpochs) {
      Add("training.epochs", absl::StrCat("is ", training.epochs(), "; must be at least 1 and at most ", kMaxEpochs));
    }
    if (training.checkpoint_interval_steps() < 0) Add("training.checkpoint_interval_steps", "must not be negative");
    if (training.keep_checkpoints() < 0) Add("training.keep_checkpoints", "must not be negative; 0 keeps 3");
    if (training.digest_interval_steps() < 0)
      Add("training.digest_interval_steps", "must not be negative; 0 means 100");
    if (!v1::NonFinitePolicy_IsValid(training.non_finite())) {
      Add("training.non_finite", "must be FAIL, SKIP_STEP or ROLL_BACK");
    }
    CheckPrecision();
    if (!v1::Reduction_IsValid(training.reduction())) {
      Add("training.reduction", "must be REDUCTION_CANONICAL or REDUCTION_FASTEST");
    }
    CheckShards(plan);
    const int64_t samples = dataset_ == nullptr ? 0 : dataset_->train_samples;
    if (samples < 1 || batch < 1) return;
    if (batch > samples) {
      Add("training.batch_size",
          absl::StrCat("is ", batch, ", more than the ", samples, " training samples of the data set"));
      return;
    }
    plan.steps_per_epoch = (samples + batch - 1) / batch;
    if (__builtin_mul_overflow(plan.steps_per_epoch, training.epochs(), &plan.total_steps) ||
        plan.total_steps > kMaxSteps) {
      Add("training.epochs", "gives more steps than can be counted; lower it");
    }
  }

  void CheckPrecision() {
    const v1::TrainingSpec& training = spec_.training();
    const v1::Precision precision = training.precision();
    if (!v1::Precision_IsValid(precision)) {
      Add("training.precision", "must be PRECISION_FLOAT32, TF32, MIXED_BFLOAT16 or MIXED_FLOAT16");
    }
    const bool of_gpus = precision == v1::PRECISION_TF32 || precision == v1::PRECISION_MIXED_FLOAT16;
    if (of_gpus && spec_.resources().device() != v1::DEVICE_CUDA) {
      Add("training.precision",
          absl::StrCat(v1::Precision_Name(precision),
                       " is for GPUs alone: set resources.device to DEVICE_CUDA, or use PRECISION_FLOAT32 or "
                       "PRECISION_MIXED_BFLOAT16"));
    }
    if (!training.has_loss_scale()) return;
    if (precision != v1::PRECISION_MIXED_FLOAT16) {
      Add("training.loss_scale", "is only of PRECISION_MIXED_FLOAT16; leave it out");
    }
    const double scale = training.loss_scale().initial_scale();
    int exponent = 0;
    const bool power_of_two = scale >= 1 && std::frexp(scale, &exponent) == 0.5;
    if (scale != 0 && !(power_of_two && scale <= kMaxLossScale)) {
      Add("training.loss_scale.initial_scale",
          absl::StrCat("is ", scale, "; must be a power of two from 1 to ", kMaxLossScale, ", or 0 for 32768"));
    }
    if (training.loss_scale().growth_steps() < 0) {
      Add("training.loss_scale.growth_steps", "must not be negative; 0 means 2000");
    }
  }

  void CheckShards(JobPlan& plan) {
    const int32_t shards = spec_.training().logical_shards();
    const int32_t workers = std::clamp(spec_.resources().workers(), 1, kMaxWorkers);
    const int64_t batch = spec_.training().batch_size();
    plan.logical_shards = static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(workers)));
    if (shards != 0) plan.logical_shards = shards;
    if (shards < 0 || shards > kMaxShards || !(shards == 0 || std::has_single_bit(static_cast<uint32_t>(shards)))) {
      Add("training.logical_shards",
          absl::StrCat("is ", shards, "; must be a power of two of at most ", kMaxShards, ", or 0 for the default"));
    } else if (plan.logical_shards < workers) {
      Add("training.logical_shards",
          absl::StrCat("is ", shards, ", fewer than the ", workers, " workers; each worker needs at least one"));
    } else if (batch >= 1 && plan.logical_shards > batch) {
      Add(shards == 0 ? "resources.workers" : "training.logical_shards",
          absl::StrCat("a batch of ", batch, " cannot be cut into ", plan.logical_shards,
                       " shards; raise training.batch_size or lower this"));
    }
  }

  const v1::JobSpec& spec_;
  const DatasetInfo* dataset_;
  Violations& violations_;
  bool model_ok_ = false;
};

}  // namespace

JobPlan PlanJob(const v1::JobSpec& spec, const DatasetInfo* dataset, Violations& violations) {
  return Validator(spec, dataset, violations).Run();
}

}  // namespace lockstep
