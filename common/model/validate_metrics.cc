// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/model/checks.h"
#include "common/model/metrics_plan.h"

namespace lockstep {

namespace {

constexpr int64_t kMaxConfusionClasses = 100;
constexpr int kMaxAucThresholds = 4096;

// Adds what is wrong with one of the job's metrics.
class MetricCheck {
 public:
  MetricCheck(std::string field, const v1::LossSpec& loss, const ModelPlan* model, Violations& violations)
      : field_(std::move(field)), loss_(loss), task_(TaskOf(loss)), model_(model), violations_(violations) {}

  void Check(const v1::MetricSpec& metric) {
    switch (metric.kind_case()) {
      case v1::MetricSpec::kAccuracy:
        if (task_ == Task::kNumbers) return NeedsClasses();
        if (task_ == Task::kBinary && outputs() > 1)
          Add("counts classes, but each output is a yes or no of its own; "
              "use binary_accuracy");
        return;
      case v1::MetricSpec::kTopKAccuracy:
        return CheckTopK(metric.top_k_accuracy());
      case v1::MetricSpec::kBinaryAccuracy:
        if (task_ != Task::kBinary)
          return Add("needs binary_crossentropy or hinge as the loss; use accuracy for classes");
        return CheckThreshold(metric.binary_accuracy());
      case v1::MetricSpec::kPrecision:
        return CheckThreshold(metric.precision());
      case v1::MetricSpec::kRecall:
        return CheckThreshold(metric.recall());
      case v1::MetricSpec::kF1Score:
        return CheckThreshold(metric.f1_score());
      case v1::MetricSpec::kAuc:
        return CheckAuc(metric.auc());
      case v1::MetricSpec::kConfusionMatrix:
        return CheckConfusionMatrix();
      case v1::MetricSpec::kMeanSquaredError:
      case v1::MetricSpec::kMeanAbsoluteError:
      case v1::MetricSpec::kRSquared:
        if (task_ != Task::kNumbers)
          Add("needs numbers as targets and a loss for numbers, such as mean_squared_error; "
              "use accuracy for classes");
        return;
      case v1::MetricSpec::kPerplexity:
        if (task_ != Task::kClasses || loss_.has_kl_divergence()) {
          Add("needs sparse_categorical_crossentropy or categorical_crossentropy as the loss; leave it out");
        }
        return;
      case v1::MetricSpec::kGradientNorm:
        return;
      case v1::MetricSpec::KIND_NOT_SET:
        return violations_.Add(field_.substr(0, field_.find(']') + 1),
                               "names no metric; give one, such as accuracy: {}");
    }
  }

 private:
  // 0: not known.
  int64_t outputs() const { return model_ == nullptr ? 0 : model_->output.elements(); }
  void Add(const std::string& what) { violations_.Add(field_, what); }
  void NeedsClasses() { Add("needs classes, but the loss is for numbers; use r_squared or mean_absolute_error"); }

  void CheckTopK(const v1::TopKAccuracyMetric& metric) {
    if (task_ == Task::kNumbers) return NeedsClasses();
    if (task_ == Task::kBinary) return Add("needs one output for each class; use binary_accuracy");
    const int k = TopKOf(metric);
    if (k < 1 || (outputs() > 0 && k >= outputs())) {
      violations_.Add(field_ + ".k", absl::StrCat("is ", k, metric.k() == 0 ? " by default" : "",
                                                  "; must be at least 1 and below the number of classes",
                                                  outputs() > 0 ? absl::StrCat(", ", outputs()) : ""));
    }
  }

  template <typename Metric>
  void CheckThreshold(const Metric& metric) {
    if (task_ == Task::kNumbers) return NeedsClasses();
    if (!metric.has_threshold()) return;
    const std::string field = field_ + ".threshold";
    if (task_ == Task::kClasses) {
      violations_.Add(field, "has no meaning where the largest output decides; leave it out");
    } else if (loss_.has_hinge()) {
      violations_.Add(field, "is on probabilities, but a hinge loss has none: its sides part at 0; leave it out");
    } else if (!(metric.threshold() >= 0 && metric.threshold() <= 1)) {
      violations_.Add(field, absl::StrCat("is ", metric.threshold(), "; must be at least 0 and at most 1"));
    }
  }

  void CheckAuc(const v1::AucMetric& metric) {
    if (task_ == Task::kNumbers) return NeedsClasses();
    if (loss_.has_hinge()) return Add("needs probabilities; use binary_crossentropy as the loss");
    const int thresholds = AucThresholdsOf(metric);
    if (thresholds >= 2 && thresholds <= kMaxAucThresholds) return;
    violations_.Add(field_ + ".num_thresholds", absl::StrCat("is ", thresholds, "; must be at least 2 and at most ",
                                                             kMaxAucThresholds, ", or 0 for 200"));
  }

  void CheckConfusionMatrix() {
    if (task_ == Task::kNumbers) return NeedsClasses();
    if (task_ == Task::kBinary && outputs() > 1) {
      Add("needs one label for each sample, but each output is a yes or no of its own; use precision and recall");
    } else if (outputs() > kMaxConfusionClasses) {
      Add(absl::StrCat("is for at most ", kMaxConfusionClasses, " classes, but the model has ", outputs(),
                       " outputs; use precision and recall"));
    }
  }

  std::string field_;
  const v1::LossSpec& loss_;
  Task task_;
  const ModelPlan* model_;
  Violations& violations_;
};

}  // namespace

void CheckMetrics(const v1::JobSpec& spec, const ModelPlan* model, Violations& violations) {
  if (spec.loss().kind_case() == v1::LossSpec::KIND_NOT_SET) return;
  std::set<int> seen;
  for (int i = 0; i < spec.metrics_size(); ++i) {
    const v1::MetricSpec& metric = spec.metrics(i);
    const std::string_view name = MetricName(metric);
    const std::string field = absl::StrCat("metrics[", i, "].", absl::string_view(name.data(), name.size()));
    if (metric.kind_case() != v1::MetricSpec::KIND_NOT_SET && !seen.insert(metric.kind_case()).second) {
      violations.Add(field, "is there twice; give each metric once");
      continue;
    }
    MetricCheck(field, spec.loss(), model, violations).Check(metric);
  }
}

}  // namespace lockstep
