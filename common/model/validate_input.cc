// SPDX-License-Identifier: Apache-2.0
// Checks of what happens to samples between their files and the step.
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/model/checks.h"
#include "common/model/input_plan.h"

namespace lockstep {

namespace {

constexpr int kMaxChanges = 32;
constexpr int32_t kMaxPrefetchBatches = 256;

class InputChecker {
 public:
  InputChecker(const v1::JobSpec& spec, const DatasetInfo* dataset, int32_t logical_shards, Violations& violations)
      : spec_(spec),
        input_(spec.dataset()),
        dataset_(dataset),
        logical_shards_(logical_shards),
        violations_(violations) {}

  void Run() {
    const bool known = dataset_ != nullptr && dataset_->sample.rank() > 0;
    if (known && !input_.augmentation().empty() && dataset_->sample.rank() != 2 && dataset_->sample.rank() != 3) {
      Add("augmentation", absl::StrCat("needs images, [height, width] or [channels, height, width]; the samples of "
                                       "the data set are ",
                                       dataset_->sample.ToString(), ", leave it out"));
    } else {
      if (known) TakeSize(dataset_->sample);
      CheckChanges();
    }
    CheckNormalize(known);
    CheckLimits(known);
  }

 private:
  void Add(const std::string& field, const std::string& description) {
    violations_.Add(absl::StrCat("dataset.", field), description);
  }

  void TakeSize(const Shape& sample) {
    if (sample.rank() < 2) return;
    height_ = sample[sample.rank() - 2];
    width_ = sample[sample.rank() - 1];
  }

  void CheckChanges() {
    if (input_.augmentation_size() > kMaxChanges) {
      Add("augmentation", absl::StrCat("has ", input_.augmentation_size(), " entries; at most ", kMaxChanges));
      return;
    }
    for (int i = 0; i < input_.augmentation_size(); ++i) {
      CheckChange(input_.augmentation(i), absl::StrCat("augmentation[", i, "]"));
    }
  }

  // Within [first, limit]; a negative limit is not known.
  void CheckPixels(const std::string& field, int64_t value, int64_t first, int64_t limit, const std::string& what) {
    if (value >= first && (limit < 0 || value <= limit)) return;
    Add(field, absl::StrCat("is ", value, "; must be at least ", first,
                            limit < 0 ? std::string() : absl::StrCat(" and at most ", limit, ", ", what)));
  }

  void CheckChange(const v1::AugmentationSpec& change, const std::string& field) {
    const int64_t smaller = height_ == 0 ? -1 : std::min(height_, width_);
    switch (change.kind_case()) {
      case v1::AugmentationSpec::kRandomShift: {
        const v1::RandomShift& shift = change.random_shift();
        CheckPixels(field + ".random_shift.vertical", shift.vertical(), 0, height_ - 1, "below the image's height");
        CheckPixels(field + ".random_shift.horizontal", shift.horizontal(), 0, width_ - 1, "below the image's width");
        if (shift.vertical() == 0 && shift.horizontal() == 0) {
          Add(field + ".random_shift", "moves nothing; give vertical or horizontal, or leave it out");
        }
        return;
      }
      case v1::AugmentationSpec::kRandomFlip:
        if (!change.random_flip().horizontal() && !change.random_flip().vertical()) {
          Add(field + ".random_flip", "flips nothing; set horizontal or vertical, or leave it out");
        }
        return;
      case v1::AugmentationSpec::kRandomCrop:
        return CheckPixels(field + ".random_crop.padding", change.random_crop().padding(), 1, smaller,
                           "the image's smaller side");
      case v1::AugmentationSpec::kRandomRotation: {
        const double degrees = change.random_rotation().degrees();
        if (degrees > 0 && degrees <= 180) return;
        return Add(field + ".random_rotation.degrees",
                   absl::StrCat("is ", degrees, "; must be greater than 0 and at most 180"));
      }
      case v1::AugmentationSpec::kCutout:
        return CheckPixels(field + ".cutout.size", change.cutout().size(), 1, smaller, "the image's smaller side");
      case v1::AugmentationSpec::KIND_NOT_SET:
        return Add(field, "is empty; give random_shift, random_flip, random_crop, random_rotation or cutout");
    }
  }

  void CheckNormalize(bool known) {
    if (!input_.has_normalize()) return;
    const auto& mean = input_.normalize().mean();
    const auto& stddev = input_.normalize().stddev();
    const int64_t channels = known && dataset_->sample.rank() == 3 ? dataset_->sample[0] : 1;
    const auto check_count = [&](const char* field, int count) {
      if (count == 1 || (count > 1 && !known) || count == channels) return;
      Add(field, absl::StrCat("has ", count, " numbers; give one for all, or one for each channel",
                              known ? absl::StrCat(", of which the samples have ", channels) : std::string()));
    };
    check_count("normalize.mean", mean.size());
    check_count("normalize.stddev", stddev.size());
    for (int i = 0; i < mean.size(); ++i) {
      if (std::isfinite(static_cast<float>(mean[i]))) continue;
      Add(absl::StrCat("normalize.mean[", i, "]"), absl::StrCat("is ", mean[i], "; must be a finite number"));
    }
    for (int i = 0; i < stddev.size(); ++i) {
      if (static_cast<float>(stddev[i]) > 0 && std::isfinite(static_cast<float>(stddev[i]))) continue;
      Add(absl::StrCat("normalize.stddev[", i, "]"),
          absl::StrCat("is ", stddev[i], "; must be a finite number greater than 0"));
    }
  }

  void CheckLimits(bool known) {
    const int32_t batches = input_.prefetch_batches();
    if (batches < 0 || batches > kMaxPrefetchBatches) {
      Add("prefetch_batches",
          absl::StrCat("is ", batches, "; must be 0 (", kDefaultPrefetchBatches, ") to ", kMaxPrefetchBatches));
      return;
    }
    const int64_t limit = input_.memory_limit_bytes();
    if (limit < 0) Add("memory_limit_bytes", absl::StrCat("is ", limit, "; must not be negative; 0 means no limit"));
    if (limit <= 0) return;
    if (!input_.has_numpy() && !input_.has_cifar()) {
      return Add("memory_limit_bytes",
                 "is only for numpy and cifar, whose samples can be read one by one; leave it out");
    }
    for (const auto& [field, names] : {std::pair{"train_features", &input_.numpy().train_features()},
                                       {"train_targets", &input_.numpy().train_targets()},
                                       {"test_features", &input_.numpy().test_features()},
                                       {"test_targets", &input_.numpy().test_targets()}}) {
      for (int i = 0; i < names->size(); ++i) CheckNoArchive((*names)[i], absl::StrCat("numpy.", field, "[", i, "]"));
    }
    const int64_t workers = spec_.resources().workers();
    if (!known || spec_.training().batch_size() < 1 || workers < 1 || logical_shards_ < 1) return;
    const int64_t owned = (logical_shards_ + workers - 1) / workers;
    const InputPlan plan = PlanInput(spec_, *dataset_, logical_shards_, owned);
    if (plan.bytes <= limit) return;
    Add("memory_limit_bytes",
        absl::StrCat("is ", limit, ", but with this batch a worker holds ", plan.bytes,
                     " bytes of samples: ", batches > 0 ? batches : kDefaultPrefetchBatches,
                     " batches ahead, labels and buffers; raise it, or lower prefetch_batches or training.batch_size"));
  }

  void CheckNoArchive(const std::string& name, const std::string& field) {
    if (!absl::StrContains(name, ".npz")) return;
    Add(field,
        "an archive cannot be read row by row, which memory_limit_bytes asks for; save its arrays as .npy files");
  }

  const v1::JobSpec& spec_;
  const v1::DatasetSpec& input_;
  const DatasetInfo* dataset_;
  int32_t logical_shards_;
  Violations& violations_;
  // 0: not known.
  int64_t height_ = 0;
  int64_t width_ = 0;
};

}  // namespace

void CheckInput(const v1::JobSpec& spec, const DatasetInfo* dataset, int32_t logical_shards, Violations& violations) {
  InputChecker(spec, dataset, logical_shards, violations).Run();
}

}  // namespace lockstep
