// SPDX-License-Identifier: Apache-2.0
// Every check of a specification, each with the path a person wrote and what to do.
#include <algorithm>
#include <bit>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/model/job_plan.h"

namespace lockstep {

namespace {

constexpr int kMaxWorkers = 1024;
constexpr int kMaxShards = 1024;
constexpr int kMaxThreads = 1024;
constexpr int64_t kMaxEpochs = 1'000'000'000;
constexpr int64_t kMaxSteps = int64_t{1} << 53;
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
    CheckDataset();
    CheckModel(plan);
    CheckLoss(plan);
    CheckOptimizer();
    CheckSchedule();
    CheckResources();
    CheckTraining(plan);
    return plan;
  }

 private:
  void Add(const std::string& field, const std::string& description) { violations_.Add(field, description); }

  // In [low, high); a NaN is never inside.
  void CheckRange(const std::string& field, double value, double low, double high) {
    if (!(value >= low && value < high)) {
      Add(field, absl::StrCat("is ", value, "; must be at least ", low, " and below ", high));
    }
  }
  void CheckPositive(const std::string& field, double value) {
    if (!(value > 0) || !std::isfinite(value)) Add(field, absl::StrCat("is ", value, "; must be greater than 0"));
  }

  // What ProbeDataset does not say, and what it would say where it was not asked.
  void CheckDataset() {
    const v1::IdxDataset& idx = spec_.dataset().idx();
    if (idx.has_scale() && (!std::isfinite(idx.scale()) || idx.scale() == 0)) {
      Add("dataset.idx.scale", absl::StrCat("is ", idx.scale(), "; must be a finite number other than 0"));
    }
    if (!std::isfinite(idx.offset())) {
      Add("dataset.idx.offset", absl::StrCat("is ", idx.offset(), "; must be a finite number"));
    }
    const v1::CsvDataset& csv = spec_.dataset().csv();
    if (!csv.ignore_columns().empty() && !csv.feature_columns().empty()) {
      Add("dataset.csv.ignore_columns", "has no effect beside feature_columns; leave one of the two out");
    }
    if (!v1::MissingValuePolicy_IsValid(csv.missing_values())) {
      Add("dataset.csv.missing_values", "must be REFUSE, DROP_ROWS or MEAN");
    }
    if (dataset_ != nullptr) return;
    if (spec_.dataset().source_case() == v1::DatasetSpec::SOURCE_NOT_SET) {
      Add("dataset", "has no source; give idx or csv");
    } else if (spec_.dataset().has_idx() ? idx.path().empty() : csv.path().empty()) {
      Add(spec_.dataset().has_idx() ? "dataset.idx.path" : "dataset.csv.path", "is missing");
    }
    if (spec_.dataset().has_csv() && csv.target_columns().empty()) {
      Add("dataset.csv.target_columns", "is empty; name at least one column to predict");
    }
    if (csv.has_test_fraction() && !(csv.test_fraction() > 0 && csv.test_fraction() < 1)) {
      Add("dataset.csv.test_fraction", absl::StrCat("is ", csv.test_fraction(), "; must be between 0 and 1"));
    }
  }

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

  void CheckLoss(const JobPlan& plan) {
    switch (spec_.loss().kind_case()) {
      case v1::LossSpec::kSparseCategoricalCrossentropy:
        CheckCrossentropy(plan);
        return;
      case v1::LossSpec::kMeanSquaredError:
        if (dataset_ == nullptr || !model_ok_) return;
        if (dataset_->classification) {
          Add("loss.mean_squared_error",
              "needs numbers as targets, but the data set has class labels; use sparse_categorical_crossentropy");
        } else if (plan.model.output.elements() != dataset_->target_width) {
          Add("loss.mean_squared_error",
              absl::StrCat("the model ends in ", plan.model.output.ToString(), ", but a target has ",
                           dataset_->target_width, " value(s); change the last layer's units"));
        }
        return;
      case v1::LossSpec::KIND_NOT_SET:
        Add("loss", "is missing; give sparse_categorical_crossentropy or mean_squared_error");
    }
  }

  void CheckCrossentropy(const JobPlan& plan) {
    const std::string field = "loss.sparse_categorical_crossentropy";
    if (dataset_ != nullptr && dataset_->sample.rank() > 0 && !dataset_->classification) {
      Add(field, "needs class labels, but the data set's targets are numbers; use mean_squared_error");
    }
    if (!model_ok_) return;
    if (plan.model.output.rank() != 1 || plan.model.output.elements() < 2) {
      Add(field, absl::StrCat("needs one output for each class, at least 2, but the model ends in ",
                              plan.model.output.ToString()));
    }
    if (dataset_ != nullptr && dataset_->classes > plan.model.output.elements()) {
      Add(field, absl::StrCat("the labels go up to ", dataset_->classes - 1, ", but the model has ",
                              plan.model.output.elements(), " outputs; the last layer needs at least ",
                              dataset_->classes, " units"));
    }
    const bool ends_in_softmax = plan.model.layers.back().kind == "softmax";
    const bool from_logits = spec_.loss().sparse_categorical_crossentropy().from_logits();
    if (!from_logits && !ends_in_softmax) {
      Add(field + ".from_logits",
          "is false, so the model must end in a softmax; add one, or set from_logits: true for raw outputs");
    } else if (from_logits && ends_in_softmax) {
      Add(field + ".from_logits", "is true, but the model ends in a softmax; remove one of the two");
    }
  }

  void CheckOptimizer() {
    switch (spec_.optimizer().kind_case()) {
      case v1::OptimizerSpec::kSgd: {
        const v1::SgdOptimizer& sgd = spec_.optimizer().sgd();
        if (sgd.has_learning_rate()) CheckPositive("optimizer.sgd.learning_rate", sgd.learning_rate());
        CheckRange("optimizer.sgd.momentum", sgd.momentum(), 0, 1);
        if (sgd.nesterov() && sgd.momentum() == 0) Add("optimizer.sgd.nesterov", "needs a momentum greater than 0");
        return;
      }
      case v1::OptimizerSpec::kAdam: {
        const v1::AdamOptimizer& adam = spec_.optimizer().adam();
        if (adam.has_learning_rate()) CheckPositive("optimizer.adam.learning_rate", adam.learning_rate());
        if (adam.has_beta_1()) CheckRange("optimizer.adam.beta_1", adam.beta_1(), 0, 1);
        if (adam.has_beta_2()) CheckRange("optimizer.adam.beta_2", adam.beta_2(), 0, 1);
        if (adam.has_epsilon()) CheckPositive("optimizer.adam.epsilon", adam.epsilon());
        return;
      }
      case v1::OptimizerSpec::KIND_NOT_SET:
        Add("optimizer", "is missing; give sgd or adam");
    }
  }

  void CheckSchedule() {
    if (spec_.has_schedule() && spec_.schedule().kind_case() == v1::ScheduleSpec::KIND_NOT_SET) {
      Add("schedule", "names no schedule; give constant or exponential_decay, or leave it out");
    }
    if (!spec_.schedule().has_exponential_decay()) return;
    const v1::ExponentialDecaySchedule& decay = spec_.schedule().exponential_decay();
    if (decay.decay_steps() < 1) {
      Add("schedule.exponential_decay.decay_steps", absl::StrCat("is ", decay.decay_steps(), "; must be at least 1"));
    }
    if (!(decay.decay_rate() > 0 && decay.decay_rate() <= 1)) {
      Add("schedule.exponential_decay.decay_rate",
          absl::StrCat("is ", decay.decay_rate(), "; must be greater than 0 and at most 1"));
    }
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
    if (resources.device() == v1::DEVICE_CUDA) {
      Add("resources.device", "CUDA is not built into this version; use DEVICE_CPU");
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
    if (training.reduction() == v1::REDUCTION_FASTEST) {
      Add("training.reduction", "FASTEST is not built into this version; use REDUCTION_CANONICAL");
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
